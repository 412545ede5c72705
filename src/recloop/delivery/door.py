"""The door: under which name a person is known behind it, and what may be done with what they tell.

Both are remembered, so that a request waits for no query but the person's first.
"""

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from recloop.delivery.problems import Problem
from recloop.schema import Event
from recloop.store import Refused
from recloop.store.consent import PERSONALISATION, SERVICE, allowed, words_of
from recloop.store.quarantine import person_in, under
from recloop.store.vault import Vault

REMEMBERED = 100_000  # people


@dataclass(frozen=True)
class Visitor:
    """A person who asks.

    Attributes:
        user_id: the name behind the door: the pseudonym of an account that has one, else the name given.
        may: purposes that the person lets their data be used for.
        sure: False where neither memory nor the store could say.
    """

    user_id: str
    may: frozenset[str]
    sure: bool = True

    @property
    def kept(self) -> bool:
        """Whether what they are shown and do is stored."""
        return SERVICE in self.may

    @property
    def personal(self) -> bool:
        """Whether their profile and past may decide what they are shown."""
        return PERSONALISATION in self.may


class Door:
    """Of one gateway. ``vault``: ids in requests are accounts, which have their pseudonyms there."""

    def __init__(
        self, engine: Engine, terms: Mapping[str, int], assumed: bool, vault: Vault | None = None
    ) -> None:
        self.terms, self.assumed = terms, assumed
        self.engine, self._vault = engine, vault
        self._may: OrderedDict[str, frozenset[str]] = OrderedDict()
        self._names: OrderedDict[str, str | None] = OrderedDict()
        self._heard = 0

    async def visitor(self, given: str) -> Visitor:
        """Who comes under this id."""
        name = given if self._vault is None else self._names.get(given)
        if name is not None and (may := self._may.get(name)) is not None:
            return Visitor(name, may)
        return (await self.visitors([given]))[given]

    async def visitors(self, given: Collection[str]) -> dict[str, Visitor]:
        """Those who come under these ids; one query for all who are not remembered."""
        known = {one: self._names.get(one) if self._vault else one for one in given}
        if any(name is None or name not in self._may for name in known.values()):
            try:
                return await run_in_threadpool(self._look, list(known))
            except SQLAlchemyError:
                pass
        silent = allowed({}, self.terms, self.assumed)
        found = {one: (name, self._may.get(name or "")) for one, name in known.items()}
        return {
            one: Visitor(name or one, silent if may is None else may, may is not None)
            for one, (name, may) in found.items()
        }

    async def admit(self, rows: Sequence[Event | Refused]) -> list[Event | Refused | None]:
        """The rows under the names behind the door; None for those whose people do not let them be stored.

        Raises:
            Problem: it cannot be said now.
        """
        whose = [row.user_id if isinstance(row, Event) else person_in(row) for row in rows]
        people = await self.visitors({one for one in whose if one})
        if not all(visitor.sure or self.assumed for visitor in people.values()):
            raise Problem(503, "the store cannot be read now: send it again later", later=True)
        return [
            self._admitted(row, people[who]) if who else row for row, who in zip(rows, whose, strict=True)
        ]

    def _admitted(self, row: Event | Refused, visitor: Visitor) -> Event | Refused | None:
        if not visitor.kept:
            return None
        if self._vault is None:
            return row
        if isinstance(row, Event):
            return row.model_copy(update={"user_id": visitor.user_id})
        return under(row, visitor.user_id)

    def name(self, given: str, make: bool = False) -> str | None:
        """The name behind the door; None for an account that has no pseudonym. Blocks."""
        return given if self._vault is None else self._vault.pseudonym(given, make)

    @property
    def naming(self) -> Callable[[str, bool], str | None] | None:
        """``name``; None where ids are names."""
        return None if self._vault is None else self._vault.pseudonym

    def heed(self, people: Iterable[str]) -> None:
        """These have said something new: ask the store again."""
        self._heard += 1
        for name in people:
            self._may.pop(name, None)
        for given, known in list(self._names.items()):
            if known is None or not self._may.get(known):
                self._names.pop(given, None)  # one of them may have a pseudonym, or another one, now

    def _look(self, given: list[str]) -> dict[str, Visitor]:
        heard = self._heard
        names = {one: self.name(one, make=self.assumed) for one in given}
        words = words_of(self.engine, [name for name in names.values() if name])
        found = {}
        for one, name in names.items():
            may = allowed(words.get(name or "", {}), self.terms, self.assumed)
            found[one] = Visitor(name or one, may)
            if heard == self._heard:  # else what was read may be older than what was heard
                if self._vault is not None:
                    self._names[one] = name
                self._may[name or one] = may
        for memory in (self._may, self._names):
            while len(memory) > REMEMBERED:
                memory.popitem(last=False)
        return found

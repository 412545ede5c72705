"""May this person's data be used for that? Here it is decided, for the door, for training and for people.

A person's newest word on a purpose holds, if it was about the present terms or later ones. Silence is no. The
exceptions are ``assumed`` (a deployment in which nobody real is there) and, for training alone, people
who never said anything in a store of a generated or a published log: nobody is there to be asked.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Select, bindparam, func, select

from recloop.schema import now_us
from recloop.settings import Places
from recloop.store.errors import StoreError
from recloop.store.tables import consents, facts, users

PURPOSES = "service", "personalisation", "training", "marketing"
SERVICE, PERSONALISATION, TRAINING, MARKETING = PURPOSES
ASSUMED = frozenset({SERVICE, PERSONALISATION, TRAINING})  # nobody is ever assumed to want advertising
# generated and published logs
NOBODY_TO_ASK = ("market", "movielens", "open-bandit", "retail-rocket", "kuai-rand", "kuai-rec")
MINUTE = 60_000_000  # µs
AT_ONCE = 5000  # people of one query: databases take so many values
NOBODY = "erased"  # whose rows only keep a number from being given away again
Terms = Mapping[str, int]  # version of the terms that holds, by purpose


@dataclass(frozen=True)
class Word:
    """What a person said of one purpose: yes or no, to which version of its terms, when (µs since 1970)."""

    granted: bool
    version: int
    ts: int


def set_consents(engine: Engine, user_id: str, words: Mapping[str, bool], terms: Terms | None = None) -> None:
    """Record consents and withdrawals, each to the present terms (version 1 where there are none).

    Raises:
        ValueError: a purpose is not one of ``PURPOSES``.
    """
    if unknown := [purpose for purpose in words if purpose not in PURPOSES]:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, not {unknown[0]!r}")
    rows = [
        {"user_id": user_id, "purpose": purpose, "granted": granted, "ts": now_us()}
        | {"version": (terms or {}).get(purpose, 1)}
        for purpose, granted in words.items()
    ]
    with engine.begin() as connection:
        connection.execute(consents.insert(), rows)


def set_consent(engine: Engine, user_id: str, purpose: str, granted: bool) -> None:
    """Record one word; see ``set_consents``."""
    set_consents(engine, user_id, {purpose: granted})


def words_of(engine: Engine, user_ids: Iterable[str], until: int = 2**62) -> dict[str, dict[str, Word]]:
    """By person and purpose the newest word until then (µs); people who never said anything are left out."""
    with engine.connect() as connection:
        return _words(connection, user_ids, until)


def admitted(
    connection: Connection, given: Iterable[str], terms: Terms, name: Callable[[str], str | None] = str
) -> dict[str, str]:
    """By id the name under which a person's rows are stored; who does not agree to ``service`` is left out.

    Args:
        name: the name of an id behind the door; None: nobody is known under it.
    """
    names = {one: found for one in set(given) if (found := name(one))}
    words, assumed = _words(connection, names.values()), assumed_here()
    return {
        one: found for one, found in names.items() if SERVICE in allowed(words.get(found, {}), terms, assumed)
    }


def allowed(words: Mapping[str, Word], terms: Terms, assumed: bool) -> frozenset[str]:
    """The purposes for which a person's data may be used; ``assumed``: silence is a yes, marketing aside.

    Personalisation needs service: without it there is no past to look at.
    """
    yes = {name for name, word in words.items() if word.granted and word.version >= terms.get(name, 1)}
    if assumed:
        yes |= {name for name in ASSUMED if name not in words}
    return frozenset(yes if SERVICE in yes else yes - {PERSONALISATION})


def consented(engine: Engine, user_id: str, purpose: str, terms: Terms | None = None) -> bool:
    """Whether the person's newest word on the purpose is yes, to the present terms; silence is no."""
    word = words_of(engine, [user_id]).get(user_id, {}).get(purpose)
    return word is not None and word.granted and word.version >= (terms or {}).get(purpose, 1)


def assumed_here() -> bool:
    """Whether RECLOOP_CONSENT says that silence is a yes."""
    return Places().consent == "assumed"  # type: ignore[call-arg]


def may(
    connection: Connection, user_id: ColumnElement, purpose: str, terms: Terms, assumed: bool
) -> ColumnElement:
    """The condition that a row's person lets it be used for a purpose, for queries over many people.

    Who has withdrawn ``service`` is out of everything that was stored.
    """
    spoke = consents.c.purpose == purpose
    said_yes = select(consents.c.user_id).where(
        consents.c.id.in_(_newest(purpose)), consents.c.granted, consents.c.version >= terms.get(purpose, 1)
    )
    yes: ColumnElement = user_id.in_(said_yes)
    if assumed:
        yes |= user_id.not_in(select(consents.c.user_id).where(spoke))
    elif _nobody_to_ask(connection):
        yes |= user_id.not_in(select(consents.c.user_id))
    return yes & stays(user_id)


def stays(user_id: ColumnElement) -> ColumnElement:
    """The condition that a row's person is somebody, and has not withdrawn ``service``."""
    return (user_id != NOBODY) & user_id.not_in(withdrawn())


def withdrawn(before: int = 2**62) -> Select[str]:
    """People whose newest word on ``service`` is a no that was said before then (µs)."""
    return select(consents.c.user_id).where(
        consents.c.id.in_(_newest(SERVICE)), ~consents.c.granted, consents.c.ts < before
    )


def _newest(purpose: str) -> Select[int]:
    """The number of each person's newest word on a purpose."""
    return select(func.max(consents.c.id)).where(consents.c.purpose == purpose).group_by(consents.c.user_id)


def withdrawn_since(engine: Engine, number: int, before: int) -> int:
    """How many who could be learnt from at word ``number`` withdrew since, before then (µs)."""
    early = consents.alias()
    said = select(early.c.id).where(early.c.user_id == consents.c.user_id, early.c.id <= number)
    of_training = said.where(early.c.purpose == TRAINING)
    with engine.connect() as connection:
        was_in: ColumnElement = of_training.where(early.c.granted).exists() | (consents.c.user_id == NOBODY)
        if assumed_here() or _nobody_to_ask(connection):
            known = select(users.c.user_id).where(users.c.user_id == consents.c.user_id)
            spoke = of_training if assumed_here() else said
            was_in |= ~spoke.exists() & known.exists()
        query = select(func.count(consents.c.user_id.distinct())).where(
            consents.c.id > number,
            consents.c.ts < before,
            ~consents.c.granted,
            consents.c.purpose.in_((TRAINING, SERVICE)),
            was_in,
        )
        return connection.execute(query).scalar_one()


def require_consents(engine: Engine, number: int, minutes: float) -> None:
    """Nothing, if nobody who could be learnt from at word ``number`` has withdrawn longer ago than that.

    Raises:
        StoreError: somebody has; a run that was under way then may end.
    """
    if gone := withdrawn_since(engine, number, now_us() - int(minutes * MINUTE)):
        raise StoreError(
            f"{gone} people have withdrawn from training, or were erased, since this data version was taken:"
            " run `recloop data mark`, which begins a new one without them, then `dvc repro`"
        )


def _words(connection: Connection, user_ids: Iterable[str], until: int = 2**62) -> dict[str, dict[str, Word]]:
    found: dict[str, dict[str, Word]] = {}
    people = list(user_ids)
    for start in range(0, len(people), AT_ONCE):
        given = {"people": people[start : start + AT_ONCE], "until": until}
        for row in connection.execute(_WORDS, given):
            found.setdefault(row.user_id, {})[row.purpose] = Word(row.granted, row.version, row.ts)
    return found


def _nobody_to_ask(connection: Connection) -> bool:
    source = select(facts.c.value).where(facts.c.name == "source")
    return connection.execute(source).scalar_one_or_none() in NOBODY_TO_ASK


_LAST = (
    select(func.max(consents.c.id))
    .where(consents.c.user_id.in_(bindparam("people", expanding=True)), consents.c.ts <= bindparam("until"))
    .group_by(consents.c.user_id, consents.c.purpose)
    .scalar_subquery()
)
_WORDS = select(consents).where(consents.c.id.in_(_LAST))

"""A lease with a fencing token: of two controllers only one acts, whatever their clocks say.

A lease is one row of the store. Who waits for it watches the row and takes it when its beat has stood still
for a term by the watcher's own monotonic clock, so that a wall clock that is set back neither keeps a dead
controller's lease nor frees a living one's. Taking it adds one to the token. Every transition asks, within
its transaction, whether the token is still the newest (and not expired): a controller that slept through
its term is refused by the store, not by its own idea of the time (Kleppmann, "How to do distributed
locking", 2016; Gray and Cheriton, "Leases", SOSP 1989).
"""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from recloop.delivery.records import Conflict
from recloop.schema import now_us
from recloop.store.engine import insert_or_ignore
from recloop.store.tables import leases

NAME = "rollout"
TERM = 3.0  # seconds without a beat after which a controller counts as dead
LOOK = 0.1  # seconds between looks of who waits


class Fenced(Conflict):
    """The lease has expired or is another's; nothing was changed."""


class Lease:
    """A controller's right to act, renewed in the background; use as a context manager.

    Attributes:
        holder: who has it.
        token: larger than that of everybody before.
    """

    def __init__(self, engine: Engine, holder: str, token: int, term: float) -> None:
        self._engine, self.holder, self.token, self._term = engine, holder, token, term
        self._ended = threading.Event()
        self._beats = threading.Thread(target=self._beat, daemon=True)

    def check(self, connection: Connection) -> None:
        """Hold the row until the caller's transaction ends, so that nobody takes it meanwhile.

        Raises:
            Fenced: another has taken it, or it has expired.
        """
        mine = leases.c.name == NAME, leases.c.token == self.token, leases.c.holder == self.holder
        alive = leases.update().where(*mine, leases.c.expires > now_us())
        if connection.execute(alive.values(beat=leases.c.beat + 1)).rowcount != 1:
            raise Fenced(f"{self.holder} holds the lease no more: another controller may have taken over")

    def renew(self) -> bool:
        """Prolong it by a term, also after it has expired; False where another has taken it."""
        mine = leases.c.name == NAME, leases.c.token == self.token, leases.c.holder == self.holder
        values = {"beat": leases.c.beat + 1, "expires": _end(self._term)}
        with self._engine.begin() as connection:
            return connection.execute(leases.update().where(*mine).values(values)).rowcount == 1

    def _beat(self) -> None:
        while not self._ended.wait(self._term / 3):
            try:
                if not self.renew():
                    return
            except SQLAlchemyError:  # the store is busy or away: the next beat tries again
                continue

    def __enter__(self) -> Self:
        self._beats.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._beats.join()
        mine = leases.c.name == NAME, leases.c.token == self.token, leases.c.holder == self.holder
        with self._engine.begin() as connection:
            connection.execute(leases.update().where(*mine).values(holder="", expires=0))


def take(
    engine: Engine,
    holder: str,
    term: float = TERM,
    patience: float = 2 * TERM,
    clock: Callable[[], float] = time.monotonic,
) -> Lease:
    """The lease, as soon as it is free or its holder has shown no sign of life for its term.

    Args:
        term: seconds; also how long its holder may be silent.
        patience: seconds to wait for a holder who lives.

    Raises:
        Conflict: another controller is under way.
    """
    with engine.begin() as connection:
        insert_or_ignore(connection, leases, [_row("", 0, term)])
    begun = since = clock()
    seen = -1, -1
    while True:
        with engine.connect() as connection:
            here = connection.execute(select(leases).where(leases.c.name == NAME)).one()
        if (here.token, here.beat) != seen:
            seen, since = (here.token, here.beat), clock()
        silent = clock() - since >= here.term / 1e6
        if (not here.holder or silent) and _swap(engine, seen, _row(holder, here.token + 1, term)):
            return Lease(engine, holder, here.token + 1, term)
        if clock() - begun > patience:
            raise Conflict(f"another controller is under way: {here.holder}")
        time.sleep(LOOK)


def holder(engine: Engine) -> str:
    """Who holds the lease, by the wall clock; empty for nobody. For people to read: nothing hangs on it."""
    query = select(leases.c.holder).where(leases.c.name == NAME, leases.c.expires > now_us())
    with engine.connect() as connection:
        return connection.execute(query).scalar() or ""


def _swap(engine: Engine, seen: tuple[int, int], row: dict) -> bool:
    same = leases.c.name == NAME, leases.c.token == seen[0], leases.c.beat == seen[1]
    with engine.begin() as connection:
        return connection.execute(leases.update().where(*same).values(row)).rowcount == 1


def _row(holder: str, token: int, term: float) -> dict:
    expires = _end(term) if holder else 0
    return {"name": NAME, "holder": holder, "token": token, "beat": 0, "term": int(term * 1e6)} | {
        "expires": expires
    }


def _end(term: float) -> int:
    return now_us() + int(term * 1e6)

"""The gateways of a store: each process has a row with its beat and its counts, which the gates add up.

A gateway writes its row every second, whole and in its own name, so that a write that is done twice or
comes late counts nothing twice. Ages are by the store's clock, so that no gateway's own one matters.
"""

import asyncio
import json
import logging
import os
import socket
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import BigInteger, ColumnElement, Connection, Engine, cast, delete, exists, func, select
from sqlalchemy.exc import SQLAlchemyError

from recloop.delivery.tally import Counts, Tally, added
from recloop.delivery.wording import Words, words
from recloop.store import fault_of
from recloop.store.tables import gateways, rollouts

log = logging.getLogger("recloop.gateway")
EVERY = 1.0  # seconds between beats
LATE = 5.0  # seconds without a beat after which a gateway's counts are not those of now
GONE = 30.0  # and after which it is dead: its last counts stay, and nobody waits for it
STORE, UNREAD = "store", "unread seconds"  # beside the steps of the counts: how long it could not be read
KEPT = 86_400_000_000  # µs that a dead gateway's row outlives it, and the rollout that it had a part in


class Presence:
    """One gateway process among those of the store; use as an async context manager.

    ``unread`` says for how many seconds the process could not read the store.
    """

    def __init__(self, engine: Engine, tally: Tally, unread: Callable[[], float] = lambda: 0.0) -> None:
        self._engine, self._tally, self._unread = engine, tally, unread
        self._id, self._name = uuid.uuid4().hex, f"{socket.gethostname()}:{os.getpid()}"
        self._over = asyncio.Event()

    async def __aenter__(self) -> "Presence":
        await asyncio.to_thread(self._write, self._tally.snapshot(), False)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._task

    async def _run(self) -> None:
        ended = False
        while not ended:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), EVERY)
            ended = self._over.is_set()
            await asyncio.to_thread(self._write, self._tally.snapshot(), ended)

    def _write(self, counts: Mapping[str, Counts], ended: bool) -> None:
        try:
            with self._engine.begin() as connection:
                said = json.dumps({**counts, STORE: {UNREAD: self._unread()}})
                values = {"beat": _now(connection), "ended": ended, "counts": said}
                mine = gateways.update().where(gateways.c.id == self._id).values(values)
                if connection.execute(mine).rowcount == 0:
                    own = {"id": self._id, "name": self._name, "started": values["beat"]}
                    connection.execute(gateways.insert().values(own | values))
                    _tidy(connection)
        except SQLAlchemyError as error:
            log.warning("the gates do not hear of this gateway: %s", fault_of(error))


@dataclass(frozen=True)
class Gathered:
    """What all gateways have counted of one step.

    Attributes:
        counts: sums, of gateways that have ended or died too.
        alive: how many gateways were heard of lately.
        silent: names of those that may be serving, but whose counts are not those of now.
    """

    counts: Counts
    alive: int
    silent: tuple[str, ...]

    @property
    def lacking(self) -> Words | None:
        """Why nothing may pass on these counts; None where it may."""
        if self.silent:
            return words("silent_gateways", names=", ".join(self.silent), seconds=LATE)
        return None if self.alive else words("no_gateway")


def gather(engine: Engine, step: str) -> Gathered:
    """Add up what the gateways have counted of a step; a look at the store, which waits for no gateway."""
    with engine.connect() as connection:
        age = (_now(connection) - gateways.c.beat).label("age")
        query = select(gateways.c.name, gateways.c.counts, gateways.c.ended, age).order_by(gateways.c.name)
        rows = connection.execute(query).all()
    there = [row for row in rows if not row.ended and row.age < GONE * 1e6]
    late = tuple(row.name for row in there if row.age >= LATE * 1e6)
    counts = added(json.loads(row.counts).get(step, {}) for row in rows)
    return Gathered(counts, len(there) - len(late), late)


@dataclass(frozen=True)
class Heard:
    """Gateways, by name.

    Attributes:
        alive: for how many seconds each could not read the store, by what it says and the age of its beat.
        lost: fell silent without having ended, and no gateway was started since.
    """

    alive: Mapping[str, float]
    lost: tuple[str, ...]


def heard(engine: Engine) -> Heard:
    """Who is there; a look at the store, which waits for no gateway."""
    with engine.connect() as connection:
        age = (_now(connection) - gateways.c.beat).label("age")
        query = select(gateways.c.name, gateways.c.counts, gateways.c.beat, age).where(~gateways.c.ended)
        rows = connection.execute(query.order_by(age)).all()
        newest = connection.execute(select(func.max(gateways.c.started))).scalar() or 0
    alive = {
        row.name: json.loads(row.counts).get(STORE, {}).get(UNREAD, 0.0) + max(0.0, row.age / 1e6)
        for row in rows
        if row.age < GONE * 1e6
    }
    return Heard(alive, tuple(row.name for row in rows if row.name not in alive and row.beat >= newest))


def _tidy(connection: Connection) -> None:
    """Forget who has been dead for long and has counted nothing of the open rollout."""
    needed = exists().where(rollouts.c.open.is_(True), rollouts.c.ts - KEPT <= gateways.c.beat)
    connection.execute(delete(gateways).where(gateways.c.beat < _now(connection) - KEPT, ~needed))


def _now(connection: Connection) -> ColumnElement[int]:
    """µs since 1970 by the server's clock, or the machine's where the store is a file."""
    if connection.dialect.name == "sqlite":
        return cast((func.julianday("now") - 2440587.5) * 86_400_000_000, BigInteger)
    return cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)

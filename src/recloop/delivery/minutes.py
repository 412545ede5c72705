"""What a gateway has counted, minute by minute in the store: the embedded alerts look there.

The numbers are those of ``Meters``, read once a minute, so that no request pays for them. A row holds how
much each counter has grown since the last row that was written; what could not be is in the next one.
"""

import asyncio
import json
import logging
import uuid
from contextlib import suppress

from prometheus_client import CollectorRegistry
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from recloop.schema import now_us
from recloop.store import fault_of
from recloop.store.tables import minutes

log = logging.getLogger("recloop.gateway")
EVERY = 60.0  # seconds between rows
COUNTED = ("_total", "_bucket", "_count")  # how the series of counters and histograms end


class Minutes:
    """Writes the rows of one gateway process, the last one at its end; use as an async context manager."""

    def __init__(self, engine: Engine, registry: CollectorRegistry, every: float = EVERY) -> None:
        self._engine, self._registry, self._every = engine, registry, every
        self._id = uuid.uuid4().hex
        self._over = asyncio.Event()

    async def __aenter__(self) -> "Minutes":
        self._before = counted(self._registry)
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._task

    async def _run(self) -> None:
        while not self._over.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), self._every)
            await asyncio.to_thread(self._write)

    def _write(self) -> None:
        now = counted(self._registry)
        grown = {name: x - self._before.get(name, 0.0) for name, x in now.items()}
        row = {
            "ts": now_us(),
            "gateway": self._id,
            "counts": json.dumps({series: x for series, x in grown.items() if x or _is_below(series, grown)}),
        }
        try:
            with self._engine.begin() as connection:
                connection.execute(minutes.insert().values(row))
        except SQLAlchemyError as error:
            log.warning("what this minute counted is written with the next: %s", fault_of(error))
        else:
            self._before = now


def _is_below(series: str, grown: dict[str, float]) -> bool:
    """Whether it is a bucket of a histogram that has grown: all of it was above, and that has to be known."""
    name, _, labels = series.partition(" ")
    if not name.endswith("_bucket"):
        return False
    whole = json.dumps([label for label in json.loads(labels) if label[0] != "le"])
    return grown[f"{name.removesuffix('_bucket')}_count {whole}"] > 0


def counted(registry: CollectorRegistry) -> dict[str, float]:
    """Each counter's series by its name and, after a space, its labels as JSON; of this process alone."""
    return {
        f"{sample.name} {json.dumps(sorted(sample.labels.items()))}": sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name.endswith(COUNTED)
    }

"""What a gateway keeps of the store in memory, so that a store that cannot be read stops nobody."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from sqlalchemy import Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from recloop.delivery.meters import Meters
from recloop.delivery.routing import Routing, read_routing
from recloop.experiments.catalogue import Standing, running
from recloop.store import fault_of, popular
from recloop.store.tables import consents, items

log = logging.getLogger("recloop.gateway")
EVERY = 0.25  # seconds between looks at routing, consent and experiments
CATALOGUE_EVERY = 30.0  # seconds between looks at items and popularity
OVERLAP = 1000  # consents read again: on PostgreSQL an older number can become visible later


class Following:
    """Routing, experiments, titles and the most popular items, as last read.

    Attributes:
        routing: None until one was read; one immutable snapshot, replaced as a whole.
        experiments: those that run and have the gateway do something.
        version: of the routing; 0 for none.
        titles: of all items, by id.
        popular: available items, most liked first, then those that nobody liked yet.
    """

    def __init__(
        self,
        engine: Engine,
        rating_positive: float,
        meters: Meters,
        heed: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._heed = heed  # gets those who have said something new about consent
        self._engine, self._rating_positive, self._meters = engine, rating_positive, meters
        self.routing: Routing | None = None
        self.version = 0
        self.experiments: list[Standing] = []
        self.titles: dict[str, str] = {}
        self.popular: list[str] = []
        self.read_at = time.monotonic()
        self._last_consent: int | None = None
        self._recent: set[int] = set()

    @property
    def stale_seconds(self) -> float:
        """Time since the store could be read."""
        return time.monotonic() - self.read_at

    def refresh(self) -> None:
        """Read all but the catalogue; what cannot be read stays as it was. Blocks."""
        try:
            if found := read_routing(self._engine):
                self.version, self.routing = found
                self._meters.routing.set(self.version)
            self._read_consents()
            self.experiments = [one for one in running(self._engine) if one.experiment.changes]
        except (SQLAlchemyError, ValueError) as error:
            if self.stale_seconds > 2:
                log.warning("the store cannot be read; routing %d stays: %s", self.version, fault_of(error))
        else:
            self.read_at = time.monotonic()
        self._meters.stale.set(self.stale_seconds)

    def refresh_catalogue(self) -> None:
        """Read titles and popularity; what cannot be read stays as it was. Blocks, longer for many items."""
        query = select(items.c.item_id, items.c.title, items.c.available).order_by(items.c.item_id)
        try:
            with self._engine.connect() as connection:
                rows = connection.execute(query).all()
            liked = popular(self._engine, len(rows), self._rating_positive) if rows else []
        except SQLAlchemyError as error:
            log.warning("the catalogue stays as it was: %s", fault_of(error))
            return
        first = set(liked)
        self.titles = {row.item_id: row.title for row in rows}
        self.popular = liked + [row.item_id for row in rows if row.available and row.item_id not in first]

    async def run(self) -> None:
        """Refresh for ever; a catalogue that takes long to read holds up no routing."""
        new_routing = asyncio.Event()
        await asyncio.gather(self._follow(new_routing), self._follow_catalogue(new_routing))

    async def _follow(self, new_routing: asyncio.Event) -> None:
        while True:
            await asyncio.sleep(EVERY)
            before = self.version
            await asyncio.to_thread(self.refresh)
            if self.version != before:
                log.info("routing %d: %s", self.version, self.routing)
                new_routing.set()

    async def _follow_catalogue(self, new_routing: asyncio.Event) -> None:
        """A new routing may bring a policy that knows newer items."""
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(new_routing.wait(), CATALOGUE_EVERY if self.titles else EVERY)
            new_routing.clear()
            await asyncio.to_thread(self.refresh_catalogue)

    def _read_consents(self) -> None:
        with self._engine.connect() as connection:
            if self._last_consent is None:
                self._last_consent = connection.execute(select(func.max(consents.c.id))).scalar() or 0
            query = select(consents.c.id, consents.c.user_id)
            rows = connection.execute(query.where(consents.c.id > self._last_consent - OVERLAP)).all()
        new = [row for row in rows if row.id not in self._recent]
        self._recent = {row.id for row in rows}
        self._last_consent = max(self._recent, default=self._last_consent)
        if new:
            self._heed({row.user_id for row in new})

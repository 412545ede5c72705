"""What a gateway keeps of the store in memory, so that a store that cannot be read stops nobody."""

import asyncio
import logging
import time

from sqlalchemy import Engine, select
from sqlalchemy.exc import SQLAlchemyError

from recloop.delivery.meters import Meters
from recloop.delivery.routing import Routing, read_routing
from recloop.store import fault_of, find_items, popular
from recloop.store.tables import consents

log = logging.getLogger("recloop.gateway")
EVERY = 0.5  # seconds between looks at routing and consent
CATALOGUE_EVERY = 30.0  # seconds between looks at items and popularity
OVERLAP = 1000  # consents read again: on PostgreSQL an older number can become visible later


class Following:
    """Routing, refusals of personalisation, titles and the most popular items, as last read.

    Attributes:
        routing: None until one was read.
        version: of the routing; 0 for none.
        refusers: people whose newest word on ``personalisation`` is no.
        titles: of all items, by id.
        popular: available items, most liked first, then those that nobody liked yet.
    """

    def __init__(self, engine: Engine, rating_positive: float, meters: Meters) -> None:
        self._engine, self._rating_positive, self._meters = engine, rating_positive, meters
        self.routing: Routing | None = None
        self.version = 0
        self.refusers: set[str] = set()
        self.titles: dict[str, str] = {}
        self.popular: list[str] = []
        self.read_at = time.monotonic()
        self._last_consent = 0
        self._catalogue_at = float("-inf")

    @property
    def stale_seconds(self) -> float:
        """Time since the store could be read."""
        return time.monotonic() - self.read_at

    def refresh(self) -> None:
        """Read what is due; what cannot be read stays as it was. Blocks."""
        try:
            self._read()
        except (SQLAlchemyError, ValueError) as error:
            if self.stale_seconds > 5 * EVERY:
                log.warning("the store cannot be read; routing %d stays: %s", self.version, fault_of(error))
        else:
            self.read_at = time.monotonic()
        self._meters.stale.set(self.stale_seconds)

    async def run(self) -> None:
        """Refresh for ever."""
        while True:
            await asyncio.sleep(EVERY)
            await asyncio.to_thread(self.refresh)

    def _read(self) -> None:
        if found := read_routing(self._engine):
            if found[0] != self.version:
                log.info("routing %d: %s", *found)
                self._catalogue_at = float("-inf")
            self.version, self.routing = found
            self._meters.routing.set(self.version)
        self._read_consents()
        if time.monotonic() - self._catalogue_at > CATALOGUE_EVERY or not self.titles:
            items = find_items(self._engine)
            liked = popular(self._engine, len(items), self._rating_positive) if items else []
            rest = sorted({item.item_id for item in items if item.available} - set(liked))
            self.popular, self.titles = liked + rest, {item.item_id: item.title for item in items}
            self._catalogue_at = time.monotonic()

    def _read_consents(self) -> None:
        query = (
            select(consents.c.id, consents.c.user_id, consents.c.granted)
            .where(consents.c.purpose == "personalisation", consents.c.id > self._last_consent - OVERLAP)
            .order_by(consents.c.id)
        )
        with self._engine.connect() as connection:
            rows = connection.execute(query).all()
        newest = {user_id: granted for _, user_id, granted in rows}
        self.refusers |= {user_id for user_id, granted in newest.items() if not granted}
        self.refusers -= {user_id for user_id, granted in newest.items() if granted}
        if rows:
            self._last_consent = rows[-1].id

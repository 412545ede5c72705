"""The store's figures as the rules look at them: counters by the minute, gauges as they are now."""

import json
from collections import defaultdict
from collections.abc import Mapping

from sqlalchemy import Engine, delete, select

from recloop.store.engine import take_turn
from recloop.store.tables import minutes
from recloop.watch.expressions import Labels, Values

SECOND_US, HOUR_US = 1_000_000, 3_600_000_000
KEPT_US = 74 * HOUR_US  # the longest window of a rule is three days
FINE_US = 8 * HOUR_US  # and the next one six hours: older minutes are added up to hours
ALL = "all"  # the gateway's name in a row of an hour


class FromStore:
    """What gateways counted until ``now``, and gauges that were computed; reads the counts once."""

    def __init__(self, engine: Engine, gauges: Mapping[str, Values], now: int) -> None:
        query = select(minutes.c.ts, minutes.c.counts).where(
            minutes.c.ts > now - KEPT_US, minutes.c.ts <= now
        )
        self._grown: defaultdict[str, list[tuple[int, Labels, float]]] = defaultdict(list)
        self._gauges, self._now = gauges, now
        with engine.connect() as connection:
            for ts, counts in connection.execute(query):
                for series, x in json.loads(counts).items():
                    name, _, labels = series.partition(" ")
                    self._grown[name].append((ts, tuple(map(tuple, json.loads(labels))), x))  # type: ignore[arg-type]

    def increases(self, name: str, seconds: float) -> Values:
        """Sums of the rows that were written within the window; a row holds the minute before it."""
        since = self._now - int(seconds * SECOND_US)
        found: defaultdict[Labels, float] = defaultdict(float)
        for ts, labels, x in self._grown[name]:
            if ts > since:
                found[labels] += x
        return dict(found)

    def gauges(self, name: str) -> Values:
        """As they were given."""
        return dict(self._gauges.get(name, {}))


def fold(engine: Engine, now: int) -> None:
    """Add up minutes that no short window needs to one row for an hour, and delete what no window needs."""
    border = (now - FINE_US) // HOUR_US * HOUR_US
    old = select(minutes).where(minutes.c.ts <= border, minutes.c.gateway != ALL).with_for_update()
    with engine.begin() as connection:
        take_turn(connection)
        connection.execute(delete(minutes).where(minutes.c.ts <= now - KEPT_US))
        hours: defaultdict[int, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        keys = []
        for row in connection.execute(old):
            keys.append((row.ts, row.gateway))
            hour = -(-row.ts // HOUR_US) * HOUR_US
            for series, x in json.loads(row.counts).items():
                hours[hour][series] += x
        for hour, counts in hours.items():
            connection.execute(minutes.insert().values(ts=hour, gateway=ALL, counts=json.dumps(counts)))
        for ts, gateway in keys:
            connection.execute(delete(minutes).where(minutes.c.ts == ts, minutes.c.gateway == gateway))

"""The log in short: what the requests of each ten minutes were like, added up once and read often.

Each look reads only the impressions that came since the last one. A person counts once in an hour, with the
first request, since requests of one visit say the same of the person. Whose impressions come with an older
number at the same moment, as two gateways' on PostgreSQL can, may be left out: shares do not mind.
"""

import json
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, delete, func, select

from recloop.delivery.outcomes import FALLBACK
from recloop.delivery.tally import PROPENSITIES
from recloop.store.cursors import find_cursor, move_cursor
from recloop.store.engine import insert_or_ignore, take_turn, upsert
from recloop.store.tables import cursors, digests, impressions, items, users

MINUTE_US = 60_000_000
BUCKET_US, HOUR_US, DAY_US = 10 * MINUTE_US, 60 * MINUTE_US, 1440 * MINUTE_US
KEPT_US = 36 * DAY_US  # five weeks, for baselines of four
MOST = 200  # values of a feature that ten minutes keep, the most frequent ones
LATE = 2  # hours that are looked through for who was counted already
AT_ONCE = 20_000  # impressions that one transaction takes
CURSOR = "digest"
Counts = Mapping[
    str, Mapping[str, float]
]  # by feature and value; of actions the feature is "category POLICY"


class Request(NamedTuple):
    """The first impression of a request, with its person and item."""

    seq: int
    ts: int
    user_id: str
    policy: str
    propensity: float | None
    device: str
    age: int | None
    sex: str | None
    region: str | None
    category: str | None


def features(request: Request) -> Iterable[tuple[str, str]]:
    """Feature and value; ages in decades, propensities by a bound above them, as text."""
    yield "device", request.device
    yield "sex", request.sex or "unknown"
    yield "region", request.region or "unknown"
    if request.age is not None:
        yield "age", str(request.age // 10 * 10)
    if request.policy != FALLBACK:
        if request.category is not None:
            yield f"category {request.policy}", request.category
        if request.propensity is not None:
            bound = PROPENSITIES[min(bisect_left(PROPENSITIES, request.propensity), len(PROPENSITIES) - 1)]
            yield f"propensity {request.policy}", f"{bound:.4g}"


def digest(engine: Engine, now: int) -> int:
    """Add what is new to the digests, and delete old ones; returns how many requests were read."""
    read = 0
    while True:
        more, count = _more(engine, now)
        read += count
        if not more:
            return read


def digested(engine: Engine, since: int, until: int) -> dict[int, Counts]:
    """By the start of the ten minutes, those with ``since <= start <= until``."""
    query = select(digests.c.ts, digests.c.counts).where(digests.c.ts >= since, digests.c.ts <= until)
    with engine.connect() as connection:
        return {ts: json.loads(counts) for ts, counts in connection.execute(query)}


def _more(engine: Engine, now: int) -> tuple[bool, int]:
    """Whether there may be more, and how many requests were read; of two who do it at once one counts."""
    begun = find_cursor(engine, CURSOR) or 0
    with engine.connect() as connection:
        newest = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
        upto = min(newest, begun + AT_ONCE)
        rows = [Request(*row) for row in connection.execute(_requests(begun, upto, now))]
        counts = _counted(rows, _came_before(connection, rows, begun))
    with engine.begin() as connection:
        take_turn(connection)
        insert_or_ignore(connection, cursors, [{"name": CURSOR, "place": "0", "ts": now}])
        place = select(cursors.c.place).where(cursors.c.name == CURSOR).with_for_update()
        if json.loads(connection.execute(place).scalar_one()) != begun:
            return True, 0
        _add(connection, counts)
        move_cursor(connection, CURSOR, upto)
        connection.execute(delete(digests).where(digests.c.ts < now - KEPT_US))
    return upto < newest, len(rows)


def _requests(begun: int, upto: int, now: int) -> Any:
    shown, person = impressions.c, users.c
    return (
        select(
            shown.seq, shown.ts, shown.user_id, shown.policy, shown.propensity, shown.device,
            person.age, person.sex, person.region, items.c.category,
        )
        .outerjoin(users, person.user_id == shown.user_id)
        .outerjoin(items, items.c.item_id == shown.item_id)
        .where(shown.seq > begun, shown.seq <= upto, shown.position == 0, ~shown.partial)
        .where(shown.traffic.is_(None), shown.ts > now - KEPT_US, shown.ts <= now)
        .order_by(shown.seq)
    )  # fmt: skip


def _came_before(connection: Connection, rows: list[Request], begun: int) -> set[tuple[int, str]]:
    """Hours and people that were counted already, of the newest hours; who comes late counts as new."""
    hours = {row.ts // HOUR_US for row in rows}
    if not hours:
        return set()
    lowest = max(min(hours), max(hours) - LATE) * HOUR_US
    first = connection.execute(select(func.min(digests.c.first)).where(digests.c.ts >= lowest)).scalar()
    if first is None:
        return set()
    shown = impressions.c
    query = select(shown.ts, shown.user_id).where(
        shown.seq >= first, shown.seq <= begun, shown.position == 0, shown.ts >= lowest
    )
    return {(ts // HOUR_US, user_id) for ts, user_id in connection.execute(query)}


def _counted(rows: list[Request], came: set[tuple[int, str]]) -> dict[int, tuple[int, Counts]]:
    """By the start of the ten minutes: the first number, and counts of the people who are new in the hour."""
    first: dict[int, int] = {}
    found: defaultdict[int, defaultdict[str, Counter]] = defaultdict(lambda: defaultdict(Counter))
    for row in rows:
        bucket, visit = row.ts // BUCKET_US * BUCKET_US, (row.ts // HOUR_US, row.user_id)
        first.setdefault(bucket, row.seq)
        if visit not in came:
            came.add(visit)
            for feature, value in features(row):
                found[bucket][feature][value] += 1
    return {bucket: (seq, found[bucket]) for bucket, seq in first.items()}


def _add(connection: Connection, counts: Mapping[int, tuple[int, Counts]]) -> None:
    before = {
        row.ts: (row.first, json.loads(row.counts))
        for row in connection.execute(select(digests).where(digests.c.ts.in_(list(counts))))
    }
    rows = []
    for bucket, (first, more) in counts.items():
        known, total = before.get(bucket, (first, {}))
        for feature, values in more.items():
            total[feature] = dict((Counter(total.get(feature, {})) + Counter(values)).most_common(MOST))
        rows.append({"ts": bucket, "first": min(first, known), "counts": json.dumps(total)})
    upsert(connection, digests, rows)

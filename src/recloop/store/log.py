"""The log of impressions and events, and what a request needs of it at once."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    Engine,
    Float,
    Integer,
    and_,
    bindparam,
    func,
    or_,
    select,
)

from recloop.schema import Event, Impression, now_us
from recloop.store.engine import insert_or_ignore
from recloop.store.tables import events, exposures, impressions, items, quarantine, users

CHUNK = 5000


@dataclass(frozen=True)
class Refused:
    """A row that was not let in, as it came, with the reason."""

    source: str
    kind: str
    reason: str
    body: object


@dataclass(frozen=True)
class Exposure:
    """A person meets an experiment; of several the first counts. ``ts`` is in µs since 1970, UTC."""

    experiment: str
    user_id: str
    arm: str
    ts: int


def write(
    connection: Connection,
    shown: Iterable[Impression] = (),
    acts: Iterable[Event] = (),
    refused: Iterable[Refused] = (),
    met: Iterable[Exposure] = (),
) -> int:
    """Add to the log inside the caller's transaction; repeats are left out.

    A person who is seen for the first time gets a row without a profile.

    Returns:
        How many impressions and events were new.
    """
    new = 0
    shown = list(shown)
    first_seen = {row.user_id: row.ts for row in shown}
    strangers = [
        {"user_id": user_id, "attributes": "{}", "created_at": ts} for user_id, ts in first_seen.items()
    ]
    insert_or_ignore(connection, users, strangers)
    insert_or_ignore(connection, exposures, [asdict(row) for row in met])
    for table, rows in ((impressions, shown), (events, list(acts))):
        dicts = [row.model_dump(mode="json") for row in rows]
        for start in range(0, len(dicts), CHUNK):
            new += insert_or_ignore(connection, table, dicts[start : start + CHUNK])
    bad = [
        {
            "source": row.source,
            "kind": row.kind,
            "reason": row.reason,
            "body": json.dumps(row.body, default=str)[:65536],
            "ts": now_us(),
        }
        for row in refused
    ]
    if bad:
        connection.execute(quarantine.insert(), bad)
    return new


def append(
    engine: Engine,
    shown: Sequence[Impression] = (),
    acts: Sequence[Event] = (),
    refused: Sequence[Refused] = (),
) -> int:
    """Add to the log in one transaction: when it returns, the rows are on disk."""
    with engine.begin() as connection:
        return write(connection, shown, acts, refused)


def history(engine: Engine, user_id: str, limit: int, rating_positive: float) -> list[str]:
    """Ids of the items that a person clicked or rated with so many stars at least, newest first."""
    with engine.connect() as connection:
        return read_history(connection, user_id, limit, rating_positive)


def read_history(connection: Connection, user_id: str, limit: int, rating_positive: float) -> list[str]:
    """``history`` inside the caller's transaction."""
    given = {"user_id": user_id, "stars": rating_positive, "most": limit}
    return list(connection.execute(_HISTORY, given).scalars())


def popular(engine: Engine, limit: int, rating_positive: float) -> list[str]:
    """Ids of the available items with the most clicks and good ratings, most first."""
    count = func.count().label("count")
    query = (
        select(events.c.item_id)
        .join(items, items.c.item_id == events.c.item_id)
        .where(_liked(rating_positive), items.c.available)
        .group_by(events.c.item_id)
        .order_by(count.desc(), events.c.item_id)
        .limit(limit)
    )
    with engine.connect() as connection:
        return list(connection.execute(query).scalars())


def _liked(stars: float | BindParameter[float]) -> ColumnElement[bool]:
    return or_(events.c.kind == "click", and_(events.c.kind == "rating", events.c.value >= stars))


_HISTORY = (  # made once: each request needs it, and making it takes longer than its answer
    select(events.c.item_id)
    .where(events.c.user_id == bindparam("user_id"), _liked(bindparam("stars", type_=Float)))
    .order_by(events.c.ts.desc(), events.c.seq.desc())
    .limit(bindparam("most", type_=Integer))
)

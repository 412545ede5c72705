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
from recloop.store.engine import in_transaction, insert_new, insert_or_ignore
from recloop.store.tables import events, exposures, impressions, items, quarantine, users

CHUNK = 5000
MISSING = "\ufffd"  # in place of NUL, which PostgreSQL does not take


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


@dataclass(frozen=True)
class Rows:
    """What one caller adds to the log."""

    shown: Sequence[Impression] = ()
    acts: Sequence[Event] = ()
    refused: Sequence[Refused] = ()
    met: Sequence[Exposure] = ()

    def __len__(self) -> int:
        return len(self.shown) + len(self.acts) + len(self.refused) + len(self.met)


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
    return write_all(connection, [Rows(list(shown), list(acts), list(refused), list(met))])[0]


def write_all(connection: Connection, callers: Sequence[Rows]) -> list[int]:
    """``write`` for many callers at once, table by table; how many rows of each were new."""
    shown = [row for caller in callers for row in caller.shown]
    acts = [row for caller in callers for row in caller.acts]
    first_seen = {row.user_id: row.ts for row in shown}
    strangers = [
        {"user_id": user_id, "attributes": "{}", "created_at": ts} for user_id, ts in first_seen.items()
    ]
    insert_or_ignore(connection, users, strangers)
    met = [asdict(row) for caller in callers for row in caller.met]
    insert_or_ignore(connection, exposures, met)
    new = set()
    for table, rows, keys in (
        (impressions, shown, [impressions.c.request_id, impressions.c.position]),
        (events, acts, [events.c.event_id]),
    ):
        dicts = [_dumped(row) for row in rows]
        for start in range(0, len(dicts), CHUNK):
            new |= insert_new(connection, table, dicts[start : start + CHUNK], keys)
    bad = [_quarantined(row) for caller in callers for row in caller.refused]
    if bad:
        connection.execute(quarantine.insert(), bad)
    return [_taken(caller, new) for caller in callers]


def _dumped(row: Impression | Event) -> dict:
    """A row as the table has it; what a client says of its device is the only free text."""
    found = row.model_dump(mode="json")
    if "\0" in found.get("device", ""):
        found["device"] = found["device"].replace("\0", MISSING)
    return found


def _taken(caller: Rows, new: set[tuple]) -> int:
    """How many of the caller's rows are new; of the same row twice the first is."""
    keys = [(row.request_id, row.position) for row in caller.shown]
    mine = {*keys, *((row.event_id,) for row in caller.acts)} & new
    new -= mine
    return len(mine)


def _quarantined(row: Refused) -> dict:
    return {
        "source": row.source,
        "kind": row.kind,
        "reason": row.reason and row.reason.replace("\0", MISSING),
        "body": json.dumps(row.body, default=str)[:65536],
        "ts": now_us(),
    }


def append(
    engine: Engine,
    shown: Sequence[Impression] = (),
    acts: Sequence[Event] = (),
    refused: Sequence[Refused] = (),
) -> int:
    """Add to the log in one transaction: when it returns, the rows are on disk."""
    return in_transaction(engine, lambda connection: write(connection, shown, acts, refused))


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

"""The log of impressions and events, and what a request needs of it at once."""

import json
from collections.abc import Collection, Iterable, Sequence
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

from recloop.schema import Arrival, Event, Failure, Impression
from recloop.store.consent import withdrawn
from recloop.store.engine import in_transaction, insert_new, insert_or_ignore
from recloop.store.quarantine import MISSING, Refused, hold
from recloop.store.repeats import Outcome, differing, find_acts, find_shown, other_slate, spoken
from recloop.store.tables import events, exposures, impressions, items, users

CHUNK = 5000
UNNOTED = {"received": None, "skew": None, "traffic": None, "extra": None}


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
    source: str = "http"

    def __len__(self) -> int:
        return len(self.shown) + len(self.acts) + len(self.refused) + len(self.met)


@dataclass(frozen=True)
class Taken:
    """What became of one caller's rows: how many impressions and events were new, and each act's outcome."""

    new: int
    acts: list[Outcome]


def one_statement(callers: Sequence[Rows]) -> bool:
    """Whether ``write_all`` is one statement for them, where no act is known: then it needs no transaction.

    For one that is known, what follows can be done again.
    """
    others = any(caller.shown or caller.refused or caller.met for caller in callers)
    return not others and sum(len(caller.acts) for caller in callers) <= CHUNK


def write(
    connection: Connection,
    shown: Iterable[Impression] = (),
    acts: Iterable[Event] = (),
    refused: Iterable[Refused] = (),
    met: Iterable[Exposure] = (),
) -> int:
    """Add to the log inside the caller's transaction; repeats are left out.

    A person who is seen for the first time gets a row without a profile. An act whose id another act has
    is quarantined.

    Returns:
        How many impressions and events were new.
    """
    return write_all(connection, [Rows(list(shown), list(acts), list(refused), list(met))])[0].new


def write_all(connection: Connection, callers: Sequence[Rows]) -> list[Taken]:
    """``write`` for many callers at once, table by table; what became of each one's rows."""
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
        if table is impressions and len(new) < len(shown):
            _refuse_other_slates(connection, callers)
    hold(connection, [row for caller in callers for row in caller.refused])
    taken = [_taken(caller, new) for caller in callers]
    _refuse_other_bodies(connection, callers, taken)
    return taken


def _dumped(row: Impression | Event) -> dict:
    """A row as the table has it; what a client says of its device is the only free text."""
    if not isinstance(row, Event):
        device = row.device.replace("\0", MISSING)
        return vars(row) | {"device": device, "traffic": row.traffic and row.traffic.value}
    kind = row.kind.value
    if not isinstance(row, Arrival):
        return vars(row) | UNNOTED | {"kind": kind}
    extra = json.dumps(row.extra, sort_keys=True) if row.extra else None
    return vars(row) | {"kind": kind, "traffic": row.traffic and row.traffic.value, "extra": extra}


def _taken(caller: Rows, new: set[tuple]) -> Taken:
    """Which of the caller's rows are new; of the same row twice the first is."""
    shown = {(row.request_id, row.position) for row in caller.shown} & new if caller.shown else set()
    new -= shown
    outcomes = []
    for act in caller.acts:
        key = (act.event_id,)
        if key in new:
            new.remove(key)
            outcomes.append(Outcome.NEW)
        else:
            outcomes.append(Outcome.REPEATED)
    return Taken(len(shown) + outcomes.count(Outcome.NEW), outcomes)


def _refuse_other_slates(connection: Connection, callers: Sequence[Rows]) -> None:
    """What differs from the impression that its request has at its position is quarantined."""
    refused = []
    for caller in callers:
        for start in range(0, len(caller.shown), CHUNK):
            part = caller.shown[start : start + CHUNK]
            known = find_shown(connection, {row.request_id for row in part})
            for row in part:
                if fields := other_slate(row, known[row.request_id, row.position]):
                    why = f"position: the request has another {', '.join(fields)} there"
                    body = row.model_dump(mode="json")
                    refused.append(Refused(caller.source, "impression", why, body, Failure.DUPLICATE))
    hold(connection, refused)


def _refuse_other_bodies(connection: Connection, callers: Sequence[Rows], taken: Sequence[Taken]) -> None:
    """Of the acts that were not new, those that differ from what is known become conflicts."""
    again = [
        (caller, outcomes, place)
        for caller, outcomes in zip(callers, [one.acts for one in taken], strict=True)
        for place, outcome in enumerate(outcomes)
        if outcome is Outcome.REPEATED
    ]
    ids = list({caller.acts[place].event_id for caller, _, place in again})
    refused = []
    for start in range(0, len(ids), CHUNK):
        known = find_acts(connection, ids[start : start + CHUNK])
        for caller, outcomes, place in again:
            act = caller.acts[place]
            if act.event_id in known and (fields := differing(act, known[act.event_id])):
                outcomes[place] = Outcome.CONFLICT
                why = f"event_id: {act.event_id} is known with another {', '.join(fields)}"
                traffic = act.traffic if isinstance(act, Arrival) else None
                row = Refused(caller.source, "event", why, spoken(act), Failure.DUPLICATE, traffic)
                refused.append(row)
    hold(connection, refused)


def append(
    engine: Engine,
    shown: Sequence[Impression] = (),
    acts: Sequence[Event] = (),
    refused: Sequence[Refused] = (),
    source: str = "http",
) -> int:
    """Add to the log in one transaction: when it returns, the rows are on disk. How many were new."""
    return take(engine, Rows(shown, acts, refused, source=source)).new


def take(engine: Engine, rows: Rows) -> Taken:
    """``append``; what became of each act."""
    return in_transaction(engine, lambda connection: write_all(connection, [rows])[0])


def history(engine: Engine, user_id: str, limit: int, rating_positive: float) -> list[str]:
    """Ids of the items that a person clicked or rated with so many stars at least, newest first.

    Of one moment the greatest id is first.
    """
    with engine.connect() as connection:
        return read_history(connection, user_id, limit, rating_positive)


def read_history(connection: Connection, user_id: str, limit: int, rating_positive: float) -> list[str]:
    """``history`` inside the caller's transaction."""
    given = {"user_id": user_id, "stars": rating_positive, "most": limit}
    return list(connection.execute(_HISTORY, given).scalars())


def acted_on(
    engine: Engine, user_id: str, kinds: Collection[str], limit: int, before: int = 2**62
) -> list[str]:
    """Different items of the person's last ``limit`` acts of these kinds before then (µs), newest first."""
    query = (
        select(events.c.item_id)
        .where(events.c.user_id == user_id, events.c.ts < before, events.c.kind.in_(kinds))
        .order_by(events.c.ts.desc(), events.c.seq.desc())
        .limit(limit)
    )
    with engine.connect() as connection:
        return list(dict.fromkeys(connection.execute(query).scalars()))


def popular(engine: Engine, limit: int, rating_positive: float) -> list[str]:
    """Ids of the available items with the most clicks and good ratings, most first."""
    count = func.count().label("count")
    query = (
        select(events.c.item_id)
        .join(items, items.c.item_id == events.c.item_id)
        .where(_liked(rating_positive), items.c.available, events.c.traffic.is_(None))
        .where(events.c.user_id.not_in(withdrawn()))
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
    .order_by(events.c.ts.desc(), events.c.event_id.desc())  # as features are ordered for training
    .limit(bindparam("most", type_=Integer))
)

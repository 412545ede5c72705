"""From a request's id to all that led to its slate: policy, run, data, code, and what came of it."""

import math
from dataclasses import dataclass

from sqlalchemy import Engine, select

from recloop.store.item_history import items_as_of
from recloop.store.lineage import Lineage, lineage_of
from recloop.store.tables import events, impressions, items, rollouts

MOST_ACTS = 200


@dataclass(frozen=True)
class Shown:
    """One place of the slate; ``title`` as it was then, ``acts`` what was done with it: kind and value."""

    position: int
    item_id: str
    title: str
    propensity: float | None
    acts: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Origin:
    """One recommendation. Whom it was for is not told.

    Attributes:
        probability: of the slate as a whole; None where a propensity is not known.
        partial: whether only some places were logged.
        lineage: of the policy; None where it was not written down, as for the fallback.
        rollouts: those in which the policy was the challenger, newest first: number and state.
    """

    request_id: str
    ts: int
    policy: str
    slot: str
    device: str
    traffic: str | None
    partial: bool
    slate: tuple[Shown, ...]
    probability: float | None
    lineage: Lineage | None
    rollouts: tuple[tuple[int, str], ...]


def origin(engine: Engine, request_id: str) -> Origin | None:
    """Of the request of that id; None where nothing of it was logged."""
    shown = select(impressions).where(impressions.c.request_id == request_id).order_by(impressions.c.position)
    acts = select(events.c.item_id, events.c.kind, events.c.value).where(events.c.request_id == request_id)
    with engine.connect() as connection:
        rows = connection.execute(shown).all()
        if not rows:
            return None
        first = rows[0]
        done = connection.execute(acts.order_by(events.c.ts).limit(MOST_ACTS)).all()
        wanted = [row.item_id for row in rows]
        now = select(items.c.item_id, items.c.title).where(items.c.item_id.in_(wanted))
        titles: dict[str, str] = dict(connection.execute(now).tuples().all())
        tried = select(rollouts.c.id, rollouts.c.state).where(rollouts.c.challenger == first.policy)
        tries = connection.execute(tried.order_by(rollouts.c.id.desc()).limit(5)).tuples().all()
    titles |= {found.item_id: found.title for found in items_as_of(engine, first.ts, wanted)}
    known = [row.propensity for row in rows]
    return Origin(
        request_id=request_id,
        ts=first.ts,
        policy=first.policy,
        slot=first.slot,
        device=first.device,
        traffic=first.traffic,
        partial=first.partial,
        slate=tuple(
            Shown(
                row.position,
                row.item_id,
                titles.get(row.item_id, row.item_id),
                row.propensity,
                tuple((act.kind, act.value) for act in done if act.item_id == row.item_id),
            )
            for row in rows
        ),
        probability=None if None in known else math.prod(known),
        lineage=lineage_of(engine, first.policy),
        rollouts=tuple(tries),
    )

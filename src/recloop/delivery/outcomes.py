"""What came of the requests that gateways logged: reward per policy and person."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Engine, Select, func, select

from recloop.experiments import Clusters
from recloop.experiments.difference import Moments
from recloop.experiments.metrics import PLAIN, worth_of
from recloop.schema import Event, EventKind
from recloop.settings.params import RewardParams
from recloop.store.tables import events, impressions

FALLBACK = "fallback"  # the policy's name where no slot answered


@dataclass(frozen=True)
class Outcomes:
    """Requests of one policy.

    Attributes:
        requests: how many.
        people: whose, as one cluster each.
    """

    requests: int
    people: Clusters


def worth(act: Event, reward: RewardParams) -> float:
    """The reward of one act; a rating with enough stars is worth a click, a dwell nothing."""
    if act.kind in PLAIN:
        return getattr(reward, act.kind)
    good = act.kind == EventKind.RATING and act.value >= reward.rating_positive
    return reward.click if good else 0.0


def outcomes(
    engine: Engine,
    reward: RewardParams,
    since: int = 0,
    until: int | None = None,
    who: Callable[[str], bool] | None = None,
    worth: Callable[[RewardParams], ColumnElement] = worth_of,
) -> dict[str, Outcomes]:
    """Reward per request by policy, over impressions with ``since < seq <= until``, of the people ``who``.

    ``worth`` is what one act adds, where something else than reward is asked for.

    An act counts for the request and the item that it names, as in training; requests of which only
    some positions were logged (``partial``) are left out.
    """
    return {policy: found for policy, (found,) in several(engine, [worth(reward)], since, until, who).items()}


def several(
    engine: Engine,
    worths: Sequence[ColumnElement],
    since: int = 0,
    until: int | None = None,
    who: Callable[[str], bool] | None = None,
) -> dict[str, list[Outcomes]]:
    """``outcomes`` for each of what an act may add, from one reading of the log."""
    asked, earned = per_person(worths, since, until)
    whose = asked.selected_columns.policy, asked.selected_columns.user_id
    rows: dict[str, list[tuple[float, ...]]] = {}
    nothing = (0.0,) * len(worths)
    with engine.connect() as connection:
        totals = {(policy, person): tuple(sums) for policy, person, *sums in connection.execute(earned).all()}
        for policy, person, count in connection.execute(asked.order_by(*whose)).all():
            if who is None or who(person):
                rows.setdefault(policy, []).append((count, *totals.get((policy, person), nothing)))
    found = {}
    for policy, people in rows.items():
        counts, *sums = np.array(people, np.float64).T
        found[policy] = [Outcomes(int(counts.sum()), Clusters(total, counts)) for total in sums]
    return found


def moments(engine: Engine, reward: RewardParams, since: int) -> dict[str, tuple[int, Moments]]:
    """Of ``outcomes`` since a number the requests and the sums over people, which the store adds up."""
    asked, earned = (query.subquery() for query in per_person([worth_of(reward)], since, None))
    same = (asked.c.policy == earned.c.policy) & (asked.c.user_id == earned.c.user_id)
    count, total = asked.c.number, func.coalesce(earned.c.total0, 0.0)
    sums = [func.sum(term) for term in (total, count, total * total, count * count, total * count)]
    query = select(asked.c.policy, func.count(), *sums).outerjoin_from(asked, earned, same)
    with engine.connect() as connection:
        rows = connection.execute(query.group_by(asked.c.policy)).all()
    return {
        policy: (int(sums[1]), Moments(people, *(float(one) for one in sums)))
        for policy, people, *sums in rows
    }


def per_person(
    worths: Sequence[ColumnElement], since: int, until: int | None, acts: int | None = None
) -> tuple[Select, Select]:
    """Requests (``number``) and what acts added (``total0`` …), by policy and person.

    ``acts``: the last act that counts, ``events.seq``; None: all do.
    """
    within = (impressions.c.seq > since) & ~impressions.c.partial & impressions.c.traffic.is_(None)
    if until is not None:
        within &= impressions.c.seq <= until
    whose = impressions.c.policy, impressions.c.user_id
    asked = select(*whose, func.count().label("number")).where(within, impressions.c.position == 0)
    named = (
        (events.c.request_id == impressions.c.request_id)
        & (events.c.item_id == impressions.c.item_id)
        & events.c.traffic.is_(None)
    )
    if acts is not None:
        named &= events.c.seq + 0 <= acts  # acts are looked up by their request, not by number
    sums = [func.sum(worth).label(f"total{n}") for n, worth in enumerate(worths)]
    earned = select(*whose, *sums).join(events, named).where(within)
    return asked.group_by(*whose), earned.group_by(*whose)

"""What came of the requests that gateways logged: reward per policy and person."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sqlalchemy import ColumnElement, Engine, func, select

from recloop.experiments import Clusters
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
    within = (impressions.c.seq > since) & ~impressions.c.partial & impressions.c.traffic.is_(None)
    if until is not None:
        within &= impressions.c.seq <= until
    whose = impressions.c.policy, impressions.c.user_id
    asked = select(*whose, func.count()).where(within, impressions.c.position == 0).group_by(*whose)
    earned = (
        select(*whose, func.sum(worth(reward)))
        .join(
            events,
            (events.c.request_id == impressions.c.request_id)
            & (events.c.item_id == impressions.c.item_id)
            & events.c.traffic.is_(None),
        )
        .where(within)
        .group_by(*whose)
    )
    rows: dict[str, list[tuple[float, float]]] = {}
    with engine.connect() as connection:
        totals = {(policy, person): total for policy, person, total in connection.execute(earned)}
        for policy, person, count in connection.execute(asked.order_by(*whose)):
            if who is None or who(person):
                rows.setdefault(policy, []).append((totals.get((policy, person), 0.0), count))
    found = {}
    for policy, pairs in rows.items():
        sums, counts = np.array(pairs, np.float64).T
        found[policy] = Outcomes(int(counts.sum()), Clusters(sums, counts))
    return found

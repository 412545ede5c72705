"""Reward per policy version, with intervals on one scale."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from recloop.delivery.outcomes import moments
from recloop.experiments.difference import Moments
from recloop.settings.params import RewardParams
from recloop.store.tables import impressions

RECENT = 200_000  # impressions that the rewards are taken from


@dataclass(frozen=True)
class Bar:
    """One policy's reward per request; places are shares of the chart's width, in percent."""

    policy: str
    requests: int
    people: int
    mean: float
    low: float | None
    high: float | None
    place: float
    start: float
    width: float


def rewards(engine: Engine, reward: RewardParams) -> tuple[int, list[Bar], tuple[float, float]]:
    """The newest impression's number, the bars of the last ``RECENT`` of them, and their scale's ends."""
    with engine.connect() as connection:
        last = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
    made = bars(moments(engine, reward, max(0, last - RECENT)))
    return last, made, scale(made)


def bars(found: Mapping[str, tuple[int, Moments]]) -> list[Bar]:
    """Intervals on one scale, best policy first."""
    rows = []
    for policy, (requests, people) in found.items():
        low, high = people.interval()
        known = math.isfinite(low)
        rows.append((policy, requests, people, *((low, high) if known else (people.mean, people.mean))))
    if not rows:
        return []
    least, most = min(0.0, *(row[3] for row in rows)), max(0.0, *(row[4] for row in rows))
    wide = 100 / ((most - least) or 1.0)
    made = [
        Bar(
            policy=policy,
            requests=requests,
            people=people.people,
            mean=people.mean,
            low=low if low < high else None,
            high=high if low < high else None,
            place=(people.mean - least) * wide,
            start=(low - least) * wide,
            width=(high - low) * wide,
        )
        for policy, requests, people, low, high in rows
    ]
    return sorted(made, key=lambda bar: -bar.mean)


def scale(made: Sequence[Bar]) -> tuple[float, float]:
    """The rewards at both ends of the bars' chart; 0 is one of them, or between."""
    ends = [0.0, *(bar.mean for bar in made)]
    ends += [end for bar in made for end in (bar.low, bar.high) if end is not None]
    return min(ends), max(ends)

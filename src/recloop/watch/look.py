"""What the store says about the time since the last training, beside the time before."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, Select, func, select

from recloop.delivery.outcomes import Outcomes, outcomes
from recloop.experiments import Clusters, Difference, effective, watched
from recloop.experiments.drift import Drift, categories_drift, numbers_drift
from recloop.settings.params import Params
from recloop.store.snapshot import Watermark
from recloop.store.tables import impressions, users

ENOUGH = 200  # requests since training, below which nothing is said of rewards and people
BEFORE = 300_000  # impressions before it that are compared with


@dataclass(frozen=True)
class Figures:
    """What was seen since the last training, of which there were ``ENOUGH`` requests or not.

    Attributes:
        requests: since the last training.
        reward: per request, since training against before, clustered by person; the bounds hold however
            often one looks.
        drifts: of the people who came, by feature; each person counts once.
    """

    requests: int
    reward: Difference
    drifts: tuple[Drift, ...]


def look(engine: Engine, params: Params, trained: Watermark) -> Figures:
    """Read the figures; ``trained`` is the watermark of the data that the last training saw."""
    mark = trained.impressions
    oldest = max(0, mark - BEFORE)
    before = outcomes(engine, params.reward, since=oldest, until=mark)
    since = outcomes(engine, params.reward, since=mark)
    with engine.connect() as connection:
        known = (impressions.c.seq > oldest) & (impressions.c.seq <= mark)
        earlier = connection.execute(_visitors(known)).mappings().all()
        later = connection.execute(_visitors(impressions.c.seq > mark)).mappings().all()
    return Figures(
        requests=sum(found.requests for found in since.values()),
        reward=_gap(_pooled(before), _pooled(since)),
        drifts=_drifts(earlier, later),
    )


def _visitors(when: Any) -> Select:
    """One row per person who came: the profile, and the first device of the alphabet that was used."""
    profile = (users.c.age, users.c.sex, users.c.region)
    return (
        select(impressions.c.user_id, *profile, func.min(impressions.c.device).label("device"))
        .join(users, users.c.user_id == impressions.c.user_id)
        .where(when, impressions.c.position == 0)
        .group_by(impressions.c.user_id, *profile)
    )


def _drifts(earlier: Any, later: Any) -> tuple[Drift, ...]:
    found = [
        categories_drift(name, *([str(row[name] or "unknown") for row in rows] for rows in (earlier, later)))
        for name in ("sex", "region", "device")
    ]
    ages = ([float(row["age"]) for row in rows if row["age"] is not None] for rows in (earlier, later))
    found.append(numbers_drift("age", *ages))
    return tuple(drift for drift in found if drift is not None)


def _gap(before: Clusters, since: Clusters) -> Difference:
    """The difference; each bound holds at all times with 95 %, tightest at a tenth of the requests before."""
    known, new = before.counts.sum(), since.counts.sum()
    seen = effective(known, new) / effective(known, known / 10) if known else 0.0
    return watched(before, since, seen, alpha=0.1)[0]


def _pooled(found: dict[str, Outcomes]) -> Clusters:
    """All policies together; a person under two policies stays two clusters."""
    arms = [outcome.people for outcome in found.values()] or [Clusters(np.zeros(0), np.zeros(0))]
    return Clusters(np.concatenate([a.totals for a in arms]), np.concatenate([a.counts for a in arms]))

"""What the store says about the time since the last training, beside the time before."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Engine, Select, func, select

from recloop.delivery.outcomes import FALLBACK, Outcomes, outcomes
from recloop.experiments import Clusters, Difference, effective, watched
from recloop.experiments.drift import Drift, categories_drift, numbers_drift
from recloop.schema import now_us
from recloop.settings.params import Params
from recloop.store.snapshot import Watermark
from recloop.store.tables import events, impressions, quarantine, users

HOUR_US = 3_600_000_000


@dataclass(frozen=True)
class Limits:
    """What is still well.

    Attributes:
        quiet_hours: time without feedback.
        quarantined: share of rows refused at the door in the last day.
        fallbacks: share of requests since training that no slot answered.
        requests: since training, below which shares and rewards are not judged.
    """

    quiet_hours: float = 24.0
    quarantined: float = 0.05
    fallbacks: float = 0.01
    requests: int = 200


@dataclass(frozen=True)
class Figures:
    """What was seen.

    Attributes:
        requests: since the last training.
        quiet_hours: time since the newest act of feedback; None where there never was one.
        quarantined: share of the last day's rows that were refused at the door.
        fallbacks: share of the requests since training that no slot answered.
        reward: per request, since training against before, clustered by person; the bounds hold however
            often one looks.
        drifts: of the people who came, by feature; each person counts once.
    """

    requests: int
    quiet_hours: float | None
    quarantined: float
    fallbacks: float
    reward: Difference
    drifts: tuple[Drift, ...]


def look(engine: Engine, params: Params, trained: Watermark, now: int | None = None) -> Figures:
    """Read the figures; ``trained`` is the watermark of the data that the last training saw."""
    now = now_us() if now is None else now
    before = outcomes(engine, params.reward, until=trained.impressions)
    since = outcomes(engine, params.reward, since=trained.impressions)
    requests = sum(found.requests for found in since.values())
    fallbacks = since[FALLBACK].requests / requests if FALLBACK in since else 0.0
    with engine.connect() as connection:
        newest = connection.execute(select(func.max(events.c.ts))).scalar()
        day = now - 24 * HOUR_US
        rows, refused = (
            connection.execute(select(func.count()).select_from(t).where(t.c.ts > day)).scalar_one()
            for t in (events, quarantine)
        )
        earlier = connection.execute(_visitors(impressions.c.seq <= trained.impressions)).mappings().all()
        later = connection.execute(_visitors(impressions.c.seq > trained.impressions)).mappings().all()
    return Figures(
        requests=requests,
        quiet_hours=None if newest is None else (now - newest) / HOUR_US,
        quarantined=refused / (rows + refused) if refused else 0.0,
        fallbacks=fallbacks,
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

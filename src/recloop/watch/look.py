"""What people got since the last training, beside the time before."""

from dataclasses import dataclass

import numpy as np
from sqlalchemy import Engine

from recloop.delivery.outcomes import Outcomes, outcomes
from recloop.experiments import Clusters, Difference, effective, watched
from recloop.settings.params import Params
from recloop.store.snapshot import Watermark

ENOUGH = 200  # requests since training, below which nothing is said of rewards and people
BEFORE = 300_000  # impressions before it that are compared with


@dataclass(frozen=True)
class Figures:
    """What was seen since the last training, of which there were ``ENOUGH`` requests or not.

    Attributes:
        requests: since the last training.
        reward: per request, since training against before, clustered by person; the bounds hold however
            often one looks.
    """

    requests: int
    reward: Difference


def look(engine: Engine, params: Params, trained: Watermark) -> Figures:
    """Read the figures; ``trained`` is the watermark of the data that the last training saw."""
    mark = trained.impressions
    oldest = max(0, mark - BEFORE)
    before = outcomes(engine, params.reward, since=oldest, until=mark)
    since = outcomes(engine, params.reward, since=mark)
    return Figures(
        requests=sum(found.requests for found in since.values()),
        reward=_gap(_pooled(before), _pooled(since)),
    )


def _gap(before: Clusters, since: Clusters) -> Difference:
    """The difference; each bound holds at all times with 95 %, tightest at a tenth of the requests before."""
    known, new = before.counts.sum(), since.counts.sum()
    seen = effective(known, new) / effective(known, known / 10) if known else 0.0
    return watched(before, since, seen, alpha=0.1)[0]


def _pooled(found: dict[str, Outcomes]) -> Clusters:
    """All policies together; a person under two policies stays two clusters."""
    arms = [outcome.people for outcome in found.values()] or [Clusters(np.zeros(0), np.zeros(0))]
    return Clusters(np.concatenate([a.totals for a in arms]), np.concatenate([a.counts for a in arms]))

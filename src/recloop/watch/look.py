"""What people got since the last training, beside the time before."""

from dataclasses import dataclass

from sqlalchemy import Engine

from recloop.experiments import Clusters, Difference, effective, watched
from recloop.settings.params import Params
from recloop.store.snapshot import Watermark
from recloop.watch.memory import Memory

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


def look(engine: Engine, params: Params, trained: Watermark, memory: Memory) -> Figures:
    """Read the figures; ``trained`` is the watermark of the data that the last training saw.

    All policies are one: a person under two policies is two clusters.
    """
    mark, reward = trained.impressions, params.reward
    before = memory.people("before", engine, reward, max(0, mark - BEFORE), mark)
    since = memory.people("since", engine, reward, mark, None)
    return Figures(requests=int(since.counts.sum()), reward=_gap(before, since))


def _gap(before: Clusters, since: Clusters) -> Difference:
    """The difference; each bound holds at all times with 95 %, tightest at a tenth of the requests before."""
    known, new = before.counts.sum(), since.counts.sum()
    seen = effective(known, new) / effective(known, known / 10) if known else 0.0
    return watched(before, since, seen, alpha=0.1)[0]

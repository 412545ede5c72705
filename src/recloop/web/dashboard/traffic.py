"""Traffic and latency now: what the gateway counts, looked at every few seconds, kept for minutes."""

import math
import time
from collections import deque
from dataclasses import dataclass
from itertools import pairwise

from prometheus_client.metrics_core import Metric

from recloop.delivery.meters import Meters
from recloop.delivery.workers import counted
from recloop.web.dashboard.charts import Line, lines

EVERY = 5.0  # seconds between samples
KEPT = 120  # samples
WINDOW = 12  # samples that "now" is taken over: a minute
ROUTE = "/recommend"


@dataclass(frozen=True)
class Sample:
    """Counts since the gateway started, at one moment.

    Attributes:
        at: seconds of the monotonic clock.
        slates: answers to ``/recommend``.
        acts: answers to other requests that were counted.
        failed: answers with a status of 500 or more.
        busy: answers with 429.
        fallbacks: slates that no slot gave.
        slower: by upper bound in seconds how many slates took at most that.
    """

    at: float
    slates: float
    acts: float
    failed: float
    busy: float
    fallbacks: float
    slower: dict[float, float]


@dataclass(frozen=True)
class Now:
    """Figures of the last minute, and lines of the last ten; rates are per second, times in ms."""

    slates: float
    acts: float
    failed: float
    busy: float
    fallbacks: float
    p50: float | None
    p99: float | None
    rates: Line | None
    times: Line | None


class Traffic:
    """Of the gateway on this machine, all its workers together."""

    def __init__(self, meters: Meters) -> None:
        self._meters = meters
        self._answered, self._seconds, self._fallbacks = (
            next(iter(one.describe())).name
            for one in (meters.answered, meters.gateway_seconds, meters.fallbacks)
        )
        self._samples: deque[Sample] = deque(maxlen=KEPT)

    def sample(self) -> None:
        """Look once, unless that was done just now."""
        now = time.monotonic()
        if not self._samples or now - self._samples[-1].at >= EVERY * 0.9:
            self._samples.append(self._look(now))

    def now(self) -> Now:
        """What the samples say."""
        found = list(self._samples)
        last = found[-WINDOW - 1 :]
        begin, end = last[0], last[-1]
        seconds = (end.at - begin.at) or 1.0
        pairs = list(pairwise(found))
        x = [after.at - end.at for _, after in pairs]
        rates = [_rise(before.slates, after.slates) / (after.at - before.at) for before, after in pairs]
        acts = [_rise(before.acts, after.acts) / (after.at - before.at) for before, after in pairs]
        times = [[quantile(before, after, q) for before, after in pairs] for q in (0.5, 0.99)]
        parts = ("slates", "acts", "failed", "busy", "fallbacks")
        told = {name: _rise(getattr(begin, name), getattr(end, name)) / seconds for name in parts}
        p50, p99 = (quantile(begin, end, q) for q in (0.5, 0.99))
        return Now(**told, p50=p50, p99=p99, rates=lines(x, rates, acts), times=lines(x, *times))

    def _look(self, now: float) -> Sample:
        found = counted(self._meters)
        slates = acts = failed = busy = 0.0
        for labels, value in _values(found.get(self._answered), "_total"):
            slates += value if labels["route"] == ROUTE else 0.0
            acts += value if labels["route"] != ROUTE else 0.0
            failed += value if labels["status"] >= "500" else 0.0
            busy += value if labels["status"] == "429" else 0.0
        fallbacks = sum(value for _, value in _values(found.get(self._fallbacks), "_total"))
        slower: dict[float, float] = {}
        for labels, value in _values(found.get(self._seconds), "_bucket"):
            if labels["route"] == ROUTE:
                slower[float(labels["le"])] = slower.get(float(labels["le"]), 0.0) + value
        return Sample(now, slates, acts, failed, busy, fallbacks, slower)


def quantile(before: Sample, after: Sample, q: float) -> float | None:
    """In ms, of the slates between two samples, interpolated in its bucket; None where there were none."""
    risen = {at: n - before.slower.get(at, 0.0) for at, n in sorted(after.slower.items())}
    total = risen.get(math.inf, 0.0)
    if total <= 0:
        return None
    lower = below = 0.0
    for bound, count in risen.items():
        if count >= q * total and count > below:
            top = bound if bound < math.inf else lower
            return 1000 * (lower + (q * total - below) / (count - below) * (top - lower))
        lower, below = bound, count
    return None


def _rise(before: float, after: float) -> float:
    return max(0.0, after - before)


def _values(metric: Metric | None, ending: str) -> list[tuple[dict[str, str], float]]:
    if metric is None:
        return []
    return [(one.labels, one.value) for one in metric.samples if one.name.endswith(ending)]

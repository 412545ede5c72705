"""Drift of the last hour against the same hour of other weeks and days.

People of a Monday morning are other people than those of a Saturday night, so that an hour is compared with
the same hour of the last four weeks; where there were too few, with that of all working days or of weekends.
What a policy does is compared with what the same policy did, and where it is too young for that, with its
hours before. What was so yesterday at this hour is no news: of both distances the smaller one counts, so that
a change for good is reported for a day, and from then on by the distance from what the last training saw.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from recloop.experiments.drift import Drift, counts_drift, mix_drift, steps_drift
from recloop.watch.digest import BUCKET_US, DAY_US, HOUR_US, Counts

WINDOW = 6  # buckets: an hour
WEEKS, DAYS = 4, 28
LEAST = 200  # people in either sample, below which nothing is said
SOME = 50  # and yesterday, below which it is not asked
TWICE = 2.0  # a person who comes in two clock hours of a window is in it twice: chance is allowed that much
CHANCE = 1e-6  # of a look at one feature; about 43,000 of them are within 30 days
YOUNG = "hours before"  # of a policy that had no such hour yet
TIME_OF_DAY = 2.0  # they are other hours of the day, so that twice as much is needed
MOST = 50  # values of a feature that are told apart, the most frequent ones
Compared = Callable[..., Any]  # as counts_drift; samples are not empty
HOW: Mapping[str, tuple[str, Compared]] = {
    "device": ("inputs", counts_drift),
    "sex": ("inputs", counts_drift),
    "region": ("inputs", counts_drift),
    "age": ("inputs", steps_drift),
    "category": ("actions", mix_drift),
    "propensity": ("propensities", steps_drift),
}


@dataclass(frozen=True)
class Found:
    """How far one feature of the last hour is away, and from what.

    Attributes:
        kind: ``inputs``, ``actions`` or ``propensities``.
        policy: whose actions; empty for inputs.
        reference: ``same hour of the week``, ``same hour of the day``, ``hours before``, or ``training``.
        drift: of which feature, and by how much.
    """

    kind: str
    policy: str
    reference: str
    drift: Drift

    @property
    def people(self) -> int:
        """On the smaller side."""
        return min(self.drift.reference, self.drift.recent)


def seasonal(digests: Mapping[int, Counts], now: int, zone: str = "UTC") -> list[Found]:
    """Every feature of the hour until ``now`` that can be compared; digests as ``digested`` gives them.

    ``zone``: whose Saturdays and Sundays are a weekend, such as ``Asia/Seoul``.
    """
    newest = now // BUCKET_US * BUCKET_US
    window = [newest - place * BUCKET_US for place in range(WINDOW)]
    recent = _pooled(digests, window)
    found = []
    for name, values in sorted(recent.items()):
        feature, _, policy = name.partition(" ")
        kind, compare = HOW[feature]
        against = [
            (reference, before)
            for reference, starts in _references(digests, window, bool(policy), zone)
            if (before := _summed(digests, starts, name)).total() >= LEAST
        ]
        if not against or values.total() < LEAST:
            continue
        yesterday = _summed(digests, [ts - DAY_US for ts in window], name)
        others = [against[0][1]] + [yesterday] * (yesterday.total() >= SOME)
        drifts = [
            compare(feature, *_told_apart(_halved(other), _halved(values)), chance=CHANCE) for other in others
        ]
        reference, least = against[0][0], min(drifts, key=lambda one: one.distance / one.threshold)
        if reference == YOUNG:
            least = replace(least, threshold=TIME_OF_DAY * least.threshold)
        found.append(Found(kind, policy, reference, least))
    return found


def _references(
    digests: Mapping[int, Counts], window: list[int], of_policy: bool, zone: str
) -> Iterator[tuple[str, list[int]]]:
    """What to compare with, best first."""
    yield "same hour of the week", [ts - 7 * week * DAY_US for ts in window for week in range(1, WEEKS + 1)]
    past = [(ts, ts - day * DAY_US) for ts in window for day in range(1, DAYS + 1)]
    yield "same hour of the day", [then for ts, then in past if _weekend(then, zone) == _weekend(ts, zone)]
    if of_policy:
        oldest = window[-1]
        yield YOUNG, [ts for ts in digests if oldest - 12 * HOUR_US <= ts < oldest]


@lru_cache(5000)  # about as many as there are ten minutes in the last days
def _weekend(ts: int, zone: str) -> bool:
    """Saturday or Sunday."""
    return datetime.fromtimestamp(ts // 1_000_000, ZoneInfo(zone)).weekday() >= 5


def _pooled(digests: Mapping[int, Counts], starts: list[int]) -> dict[str, Counter]:
    names = {name for ts in starts for name in digests.get(ts, {})}
    return {name: _summed(digests, starts, name) for name in names}


def _summed(digests: Mapping[int, Counts], starts: list[int], name: str) -> Counter:
    total: Counter[str] = Counter()
    for ts in starts:
        total.update(digests.get(ts, {}).get(name, {}))  # type: ignore[arg-type]  # any numbers can be added
    return total


def _halved(counts: Counter) -> Counter:
    return Counter({value: n / TWICE for value, n in counts.items()})


def _told_apart(reference: Counter, recent: Counter) -> tuple[Counter, Counter]:
    """Both with the rarest values of many as one."""
    kept = {value for value, _ in (reference + recent).most_common(MOST)}

    def folded(counts: Counter) -> Counter:
        found: Counter[str] = Counter()
        for value, n in counts.items():
            found[value if value in kept else "other"] += n  # type: ignore[assignment]
        return found

    if len(reference | recent) <= MOST:
        return reference, recent
    return folded(reference), folded(recent)

"""What a gateway counts for the gates, and what the counts of all gateways say.

Counts bear the name of the rollout's step that the request's routing was of. So they begin at 0 with every
step and every rollout, also where a policy is tried again, and those of several gateways are just added. A
histogram is a count by upper bound of its bucket: ``"seconds 0.02"``.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from recloop.delivery.meters import BUCKETS
from recloop.delivery.routing import Routing
from recloop.schema import Slate

PROPENSITIES = tuple(10 ** (-exponent / 3) for exponent in range(15, -1, -1))  # 1e-5 to 1
REMEMBERED = 8  # steps; gates ask about the one that is
Counts = Mapping[str, float]


def step_name(salt: str, share: float) -> str:
    """Of a step of canary or A/B test: within a rollout its share is larger than any before."""
    return f"{salt} at {share:.9g}"


def shadow_name(salt: str) -> str:
    """Of a rollout's shadow."""
    return f"{salt} shadow"


class Tally:
    """The counts of one gateway process since it started, by step."""

    def __init__(self) -> None:
        self._steps: dict[str, dict[str, float]] = {}

    def snapshot(self) -> dict[str, dict[str, float]]:
        """A copy that later counts do not change."""
        return {step: dict(counts) for step, counts in self._steps.items()}

    def attempt(self, routing: Routing, colour: str, outcome: str, seconds: float) -> None:
        """One attempt at a slot; counted where it is the challenger's."""
        if colour == routing.challenger:
            step = step_name(routing.salt, routing.canary_share)
            self._add(step, "ok" if outcome == "ok" else "failed")
            self._observe(step, "seconds", seconds, BUCKETS)

    def drop(self, salt: str) -> None:
        """A copy that was not sent to the shadow."""
        self._add(shadow_name(salt), "dropped")

    def copy(self, salt: str, outcome: str, shadow_seconds: float, champion_seconds: float) -> None:
        """A copy that was sent, with the seconds until the shadow answered or failed and the champion did."""
        step = shadow_name(salt)
        self._add(step, "ok" if outcome == "ok" else "failed")
        self._observe(step, "shadow seconds", shadow_seconds, BUCKETS)
        self._observe(step, "champion seconds", champion_seconds, BUCKETS)

    def compare(self, salt: str, shadow: Slate, champion: Slate) -> None:
        """Two valid answers to one request."""
        step = shadow_name(salt)
        self._add(step, "overlap", len(set(shadow.items) & set(champion.items)) / len(champion.items))
        for side, slate in (("shadow", shadow), ("champion", champion)):
            usual = math.exp(sum(map(math.log, slate.propensities)) / len(slate.propensities))
            score = sum(slate.scores) / len(slate.scores)
            self._observe(step, f"{side} propensity", usual, PROPENSITIES)
            self._add(step, f"{side} scores")
            self._add(step, f"{side} score", score)
            self._add(step, f"{side} score squared", score * score)

    def _observe(self, step: str, name: str, value: float, bounds: Sequence[float]) -> None:
        place = bisect_left(bounds, value)
        self._add(step, f"{name} {bounds[place] if place < len(bounds) else math.inf:g}")

    def _add(self, step: str, name: str, value: float = 1.0) -> None:
        if step not in self._steps and len(self._steps) >= REMEMBERED:
            del self._steps[next(iter(self._steps))]
        counts = self._steps.setdefault(step, {})
        counts[name] = counts.get(name, 0.0) + value


def added(all_of_them: Iterable[Counts]) -> dict[str, float]:
    """The sum of each count."""
    total: Counter[str] = Counter()
    for counts in all_of_them:
        total.update(counts)  # type: ignore[arg-type]  # a Counter adds any numbers
    return dict(total)


@dataclass(frozen=True)
class SlotFigures:
    """What gateways saw of the challenger's slot among people, in one step.

    Attributes:
        asked: attempts.
        failed: attempts without a valid answer.
        p99_ms: 99th percentile of the time to an answer or failure, interpolated in its bucket;
            infinite beyond the last one, None without attempts.
    """

    asked: int
    failed: int
    p99_ms: float | None


def slot_figures(counts: Counts) -> SlotFigures:
    """Of the summed counts of a step."""
    failed = int(counts.get("failed", 0))
    return SlotFigures(int(counts.get("ok", 0)) + failed, failed, _quantile(counts, "seconds", 0.99))


@dataclass(frozen=True)
class ShadowFigures:
    """What gateways saw of one rollout's shadow, beside the champion's answers to the same requests.

    Attributes:
        asked: copies that were sent, and answered or given up.
        failed: of them, without a valid answer in time.
        dropped: copies that were not sent, because too many were under way.
        p50_ms: shadow's and champion's.
        p99_ms: shadow's and champion's.
        overlap: mean share of the champion's slate that is in the shadow's too; None without answers.
        propensities: counts by bucket, shadow's and champion's.
        scores: number, sum and sum of squares of the slates' mean scores, shadow's and champion's.
    """

    asked: int
    failed: int
    dropped: int
    p50_ms: tuple[float | None, float | None]
    p99_ms: tuple[float | None, float | None]
    overlap: float | None
    propensities: tuple[dict[str, float], dict[str, float]]
    scores: tuple[tuple[float, float, float], tuple[float, float, float]]


def shadow_figures(counts: Counts) -> ShadowFigures:
    """Of the summed counts of a shadow."""
    failed, compared = int(counts.get("failed", 0)), counts.get("shadow scores", 0.0)

    def seconds(q: float) -> tuple[float | None, float | None]:
        return _quantile(counts, "shadow seconds", q), _quantile(counts, "champion seconds", q)

    def scores(side: str) -> tuple[float, float, float]:
        number, total, squares = (
            counts.get(f"{side} {name}", 0.0) for name in ("scores", "score", "score squared")
        )
        return number, total, squares

    return ShadowFigures(
        asked=int(counts.get("ok", 0)) + failed,
        failed=failed,
        dropped=int(counts.get("dropped", 0)),
        p50_ms=seconds(0.5),
        p99_ms=seconds(0.99),
        overlap=counts["overlap"] / compared if compared else None,
        propensities=(_cells(counts, "shadow propensity"), _cells(counts, "champion propensity")),
        scores=(scores("shadow"), scores("champion")),
    )


def _cells(counts: Counts, name: str) -> dict[str, float]:
    """A histogram's counts by upper bound."""
    start = f"{name} "
    return {key.removeprefix(start): n for key, n in counts.items() if key.startswith(start)}


def _quantile(counts: Counts, name: str, q: float) -> float | None:
    """Interpolated within its bucket, in ms; infinite in the last one; None without counts."""
    found = {float(bound): n for bound, n in _cells(counts, name).items()}
    wanted, seen = q * sum(found.values()), 0.0
    for bound in sorted(found):
        seen += found[bound]
        if seen >= wanted:
            lower = max((one for one in BUCKETS if one < bound), default=0.0)
            share = (wanted - seen + found[bound]) / found[bound]
            return bound if bound == math.inf else 1000 * (lower + share * (bound - lower))
    return None

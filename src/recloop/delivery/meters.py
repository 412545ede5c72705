"""What a gateway counts about itself, for Prometheus and for the gates."""

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)
PROPENSITIES = tuple(10 ** (-exponent / 3) for exponent in range(15, -1, -1))  # 1e-5 to 1


class Meters:
    """One registry per gateway, so that several may live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.asked = Counter(
            "recloop_slot_requests",
            "Attempts at a slot",
            ["slot", "policy", "outcome"],
            registry=self.registry,
        )
        self.slot_seconds = Histogram(
            "recloop_slot_seconds",
            "Time until a slot's answer or failure",
            ["slot", "policy"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.answered = Counter(
            "recloop_gateway_requests", "Answers of the gateway", ["route", "status"], registry=self.registry
        )
        self.gateway_seconds = Histogram(
            "recloop_gateway_seconds",
            "Time until the gateway's answer",
            ["route"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.fallbacks = Counter("recloop_fallbacks", "Answers that no slot gave", registry=self.registry)
        self.reward = Summary(
            "recloop_reward", "Worth of each act of feedback", ["policy"], registry=self.registry
        )
        self.events = Counter("recloop_events", "Rows of feedback", ["outcome"], registry=self.registry)
        self.routing = Gauge(
            "recloop_routing_version",
            "Version of the routing that holds",
            registry=self.registry,
            multiprocess_mode="livemin",
        )
        self.stale = Gauge(
            "recloop_routing_stale_seconds",
            "Time since the routing could be read",
            registry=self.registry,
            multiprocess_mode="livemax",
        )

        self.shadow_asked = Counter(
            "recloop_shadow_requests",
            "Copies of requests for the shadow",
            ["rollout", "outcome"],
            registry=self.registry,
        )
        self.shadow_seconds = Histogram(
            "recloop_shadow_seconds",
            "Time until an answer to a copied request, of the champion (or its failure, of the shadow)",
            ["rollout", "side"],
            registry=self.registry,
            buckets=BUCKETS,
        )
        self.shadow_propensity = Histogram(
            "recloop_shadow_propensity",
            "Geometric mean of a slate's propensities",
            ["rollout", "side"],
            registry=self.registry,
            buckets=PROPENSITIES,
        )
        self.shadow_score = Summary(
            "recloop_shadow_score", "Mean score of a slate", ["rollout", "side"], registry=self.registry
        )
        self.shadow_score_squared = Summary(
            "recloop_shadow_score_squared", "Its square", ["rollout", "side"], registry=self.registry
        )
        self.shadow_overlap = Summary(
            "recloop_shadow_overlap",
            "Share of the champion's slate that is in the shadow's too",
            ["rollout"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """The exposition for ``/metrics``."""
        return generate_latest(self.registry)


@dataclass(frozen=True)
class SlotFigures:
    """What gateways saw of one policy.

    Attributes:
        asked: attempts.
        failed: attempts without a valid answer.
        p99_ms: 99th percentile of the time to an answer or failure, interpolated in its bucket;
            infinite beyond the last one, None without attempts.
    """

    asked: int
    failed: int
    p99_ms: float | None


def slot_figures(exposition: str, policy: str) -> SlotFigures:
    """Read ``/metrics`` back for one policy, over all of its slots."""
    asked = failed = 0.0
    buckets: dict[float, float] = {}
    for name, labels, value in _samples(exposition, "policy", policy):
        if name == "recloop_slot_requests_total":
            asked += value
            failed += value if labels["outcome"] != "ok" else 0
        elif name == "recloop_slot_seconds_bucket":
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0) + value
    return SlotFigures(int(asked), int(failed), _quantile(buckets, 0.99))


@dataclass(frozen=True)
class ShadowFigures:
    """What gateways saw of one rollout's shadow, beside the champion's answers to the same requests.

    Attributes:
        asked: copies that were sent.
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


def shadow_figures(exposition: str, rollout: str) -> ShadowFigures:
    """Read ``/metrics`` back for the shadow of one rollout (its salt)."""
    outcomes: dict[str, float] = {}
    sums: dict[tuple[str, str], float] = {}
    cells: dict[tuple[str, str], dict[float, float]] = {}
    for name, labels, value in _samples(exposition, "rollout", rollout):
        key = name, labels.get("side", "")
        if name == "recloop_shadow_requests_total":
            outcomes[labels["outcome"]] = outcomes.get(labels["outcome"], 0) + value
        elif "le" in labels:
            buckets = cells.setdefault(key, {})
            buckets[float(labels["le"])] = buckets.get(float(labels["le"]), 0) + value
        else:
            sums[key] = sums.get(key, 0) + value
    dropped = outcomes.pop("dropped", 0)
    compared = sums.get(("recloop_shadow_overlap_count", ""), 0)

    def seconds(q: float, side: str) -> float | None:
        return _quantile(cells.get(("recloop_shadow_seconds_bucket", side), {}), q)

    def counts(side: str) -> dict[str, float]:
        found, before = cells.get(("recloop_shadow_propensity_bucket", side), {}), 0.0
        apart = {}
        for bound in sorted(found):
            apart[f"{bound:g}"], before = found[bound] - before, found[bound]
        return apart

    def scores(side: str) -> tuple[float, float, float]:
        names = ("score_count", "score_sum", "score_squared_sum")
        number, total, squares = (sums.get((f"recloop_shadow_{name}", side), 0.0) for name in names)
        return number, total, squares

    return ShadowFigures(
        asked=int(sum(outcomes.values())),
        failed=int(sum(outcomes.values()) - outcomes.get("ok", 0)),
        dropped=int(dropped),
        p50_ms=(seconds(0.5, "shadow"), seconds(0.5, "champion")),
        p99_ms=(seconds(0.99, "shadow"), seconds(0.99, "champion")),
        overlap=sums[("recloop_shadow_overlap_sum", "")] / compared if compared else None,
        propensities=(counts("shadow"), counts("champion")),
        scores=(scores("shadow"), scores("champion")),
    )


def _samples(exposition: str, label: str, value: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.labels.get(label) == value:
                yield sample.name, sample.labels, sample.value


def _quantile(cumulative: dict[float, float], q: float) -> float | None:
    bounds = sorted(cumulative)
    if not bounds or not cumulative[bounds[-1]]:
        return None
    wanted, below, lower = q * cumulative[bounds[-1]], 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted:
            inside = cumulative[bound] - below
            share = (wanted - below) / inside if inside else 1.0
            return bound if bound == float("inf") else 1000 * (lower + share * (bound - lower))
        below, lower = cumulative[bound], bound
    return None

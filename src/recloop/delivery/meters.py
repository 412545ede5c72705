"""What a gateway counts about itself, for Prometheus and for the canary's gate."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest
from prometheus_client.parser import text_string_to_metric_families

BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0)


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
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            if sample.labels.get("policy") != policy:
                continue
            if sample.name == "recloop_slot_requests_total":
                asked += sample.value
                failed += sample.value if sample.labels["outcome"] != "ok" else 0
            elif sample.name == "recloop_slot_seconds_bucket":
                bound = float(sample.labels["le"])
                buckets[bound] = buckets.get(bound, 0) + sample.value
    return SlotFigures(int(asked), int(failed), _quantile(buckets, 0.99))


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

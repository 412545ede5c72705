"""What a gateway counts about itself, for Prometheus; what it counts for the gates is in ``tally``."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, generate_latest

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
        self.strangers = Counter(
            "recloop_slot_strangers",
            "Slates of people whose history the slot could not read (away) or use (unfit)",
            ["slot", "policy", "history"],
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

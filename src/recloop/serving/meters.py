"""What a slot counts beside BentoML: which policy, how long ranking takes, whose history is known."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from recloop.policy import NothingLeft
from recloop.serving.bodies import Problem
from recloop.serving.messages import STRANGERS

BUCKETS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # seconds
HISTORIES = ("known", "none", *STRANGERS)
REASONS = {400: "unreadable", 413: "too_long", 422: "invalid"}


class Meters:
    """Of one slot. BentoML reads them from the files of PROMETHEUS_MULTIPROC_DIR, without a registry.

    Attributes:
        ranking: seconds from an observation to a slate.
        people: slates by what was known of the person's history, as ``past.Known`` says it.
    """

    def __init__(self, policy: str, registry: CollectorRegistry | None = None) -> None:
        self.ranking = Histogram(
            "recloop_slot_ranking_seconds", "Time that scoring and drawing a slate took", registry=registry,
            buckets=BUCKETS,
        )  # fmt: skip
        people = Counter(
            "recloop_slot_people", "Slates by what was known of the person", ["history"], registry=registry
        )
        self.people = {history: people.labels(history) for history in HISTORIES}
        self._refused = Counter(
            "recloop_slot_refused", "Requests that were refused", ["reason"], registry=registry
        )
        loaded = Gauge(
            "recloop_slot_policy_info", "The policy that the slot has loaded", ["policy"], registry=registry,
            multiprocess_mode="livemax",
        )  # fmt: skip
        loaded.labels(policy).set(1)

    def refused(self, problem: Problem) -> None:
        """A request for a slate got none."""
        nothing = isinstance(problem.__cause__, NothingLeft)
        self._refused.labels("nothing_left" if nothing else REASONS.get(problem.status, "other")).inc()

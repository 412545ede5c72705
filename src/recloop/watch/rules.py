"""The alerts, declared once: Prometheus's rules are generated from them, and ``evaluate`` reads them itself.

Another alert is a ``Rule`` here, its sentences in ``summaries``, a page in docs/runbooks and its cases in
infra/prometheus/rules.test.yml. A fault is told of on the lowest layer that shows it; what it causes on the
layers above is inhibited.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from recloop.settings.params import Params
from recloop.watch.expressions import All, Both, Compare, Expression, Gauge, Increase, Seen
from recloop.watch.objectives import objectives
from recloop.watch.summaries import summary

Layer = Literal["platform", "serving", "objective", "inputs", "outcome", "rollout"]
INHIBITS: Mapping[str, tuple[Layer, ...]] = {
    "platform": ("serving", "objective", "inputs", "outcome"),
    "serving": ("objective", "outcome"),
    "inputs": ("outcome",),
}
DEALT_WITH: tuple[Layer, ...] = (
    "serving",
    "outcome",
)  # where a gate that ended a rollout inhibits its policy's
HOUR, DAY = 3600.0, 86400.0
NEWS = 6 * HOUR  # for which the end of a rollout is told of
WINDOW = 300.0  # seconds that failures of slots and answers are counted over
FEW = 20  # attempts within it that are too few to speak of
ENOUGH = 2000.0  # requests from which a share of exploration is known well enough
OFF = 0.223  # |ln(seen / expected)| of the user model that matters: a factor of 1.25


@dataclass(frozen=True)
class Rule:
    """One condition that somebody should know of.

    Attributes:
        name: also of the runbook's page.
        layer: where the fault is.
        severity: critical: somebody gets up; warning: in working hours.
        when: the condition.
        hold: seconds that it must last.
        limits: figures of its sentence beside the value.
    """

    name: str
    layer: Layer
    severity: Literal["warning", "critical"]
    when: Expression
    hold: float
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        name: of the rule with its labels; the same for the same cause, so that it is not sent again at once.
        severity: how soon.
        summary: what happened and what to do, in English.
        figures: what it was concluded from.
        layer: as its rule's.
        hold: seconds that it must last before anybody is told.
        labels: of the series that it is about.
    """

    name: str
    severity: Literal["warning", "critical"]
    summary: str
    figures: Mapping[str, float]
    layer: Layer = "outcome"
    hold: float = field(default=0.0, compare=False)
    labels: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def rule(self) -> str:
        """The name of its rule."""
        return self.name.partition(" ")[0]

    def told(self, language: str) -> str:
        """The summary in the language; in English where too little was written down for another one."""
        return summary(self.rule, language, self.labels, self.figures, self.summary)


def rules(params: Params) -> list[Rule]:
    """All of them, with the limits of params.yaml."""
    serving, promised = _serving(params), objectives(params, Rule)
    return [*_platform(), *serving, *promised, *_inputs(params), *_outcome(params), *rollouts()]


def evaluate(declared: list[Rule], seen: Seen) -> list[Alert]:
    """What holds now, however long it has."""
    return [
        Alert(
            name=rule.name + "".join(f" {name}={value}" for name, value in labels if value),
            severity=rule.severity,
            summary=summary(rule.name, "en", dict(labels), {"value": value, **rule.limits}),
            figures={"value": value, **rule.limits},
            layer=rule.layer,
            hold=rule.hold,
            labels=dict(labels),
        )
        for rule in declared
        for labels, value in sorted(rule.when.value(seen).items())
    ]


def rollouts() -> list[Rule]:
    """Of rollouts that a gate has ended or held up; what a person did is no news to people."""
    of, by_a_gate = ("gate", "policy", "reason", "rollout"), {"gate": "!"}

    def since(state: str) -> Gauge:
        return Gauge("recloop_rollout_state_seconds", of, {"state": state} | by_a_gate)

    return [
        Rule("RolloutRefused", "rollout", "critical", Compare(since("refused"), "<", NEWS), 0.0),
        Rule("RolloutRolledBack", "rollout", "critical", Compare(since("rolled_back"), "<", NEWS), 0.0),
        Rule("RolloutPaused", "rollout", "warning", Compare(since("paused"), ">=", 0.0), 0.0),
    ]


def _platform() -> list[Rule]:
    return [
        Rule(
            "GatewayDown", "platform", "critical",
            Compare(Gauge("up", ("instance",), {"job": "recloop-gateway"}), "==", 0.0), 60.0,
        ),
        Rule(
            "StoreUnreadable", "platform", "critical",
            Compare(Gauge("recloop_routing_stale_seconds", ("instance",)), ">", 10.0), 60.0,
        ),
    ]  # fmt: skip


def _serving(params: Params) -> list[Rule]:
    limits, who = params.delivery, ("slot", "policy")
    asked = Increase("recloop_slot_requests_total", WINDOW, by=who)
    failed = Increase("recloop_slot_requests_total", WINDOW, {"outcome": "!ok"}, who)
    within = {"le": f"{limits.max_p99_ms / 1000:.10g}"}
    allowed, least = limits.max_error_rate, float(FEW)
    count = Increase("recloop_slot_seconds_count", WINDOW, by=who)
    fast = Increase("recloop_slot_seconds_bucket", WINDOW, within, who)
    given = Increase("recloop_slot_requests_total", WINDOW, {"outcome": "ok"})
    fallbacks = Increase("recloop_fallbacks_total", WINDOW)
    people = Increase("recloop_slot_requests_total", WINDOW, {"outcome": "ok"}, who)
    unread = Increase("recloop_slot_strangers_total", WINDOW, {"history": "away"}, who)
    return [
        Rule(
            "SlotFails", "serving", "critical",
            All((Compare(Both(failed, "/", asked), ">", allowed), Compare(asked, ">", least))),
            60.0,
        ),
        Rule(
            "Fallbacks", "serving", "critical",
            Compare(Both(fallbacks, "/", Both(given, "+", fallbacks)), ">", allowed),
            60.0,
        ),
        Rule(
            "SlotSlow", "serving", "warning",
            All((Compare(Both(Both(count, "-", fast), "/", count), ">", 0.01), Compare(count, ">", least))),
            120.0, {"limit": limits.max_p99_ms},
        ),
        Rule(
            "SlotBlind", "serving", "warning",
            All((Compare(Both(unread, "/", people), ">", allowed), Compare(people, ">", least))), 60.0,
        ),
    ]  # fmt: skip


def _inputs(params: Params) -> list[Rule]:
    refused = Increase("recloop_events_total", 600.0, {"outcome": "refused"})
    rows = Increase("recloop_events_total", 600.0)
    tolerated = params.quality.tolerated_share
    return [
        Rule(
            "FeedbackRefused", "inputs", "warning",
            All((Compare(Both(refused, "/", rows), ">", tolerated), Compare(rows, ">", float(FEW)))),
            300.0,
        ),
        Rule(
            "Quarantined", "inputs", "warning",
            Compare(Gauge("recloop_quarantined_ratio"), ">", tolerated), 300.0,
        ),
        Rule(
            "FeedbackQuiet", "inputs", "critical",
            Compare(Gauge("recloop_feedback_age_seconds"), ">", DAY), 300.0,
        ),
        Rule(
            "FlowFails", "outcome", "warning",
            Compare(Gauge("recloop_flow_failures", ("flow",)), ">=", 2.0), 0.0,
        ),
    ]  # fmt: skip


def _outcome(params: Params) -> list[Rule]:
    of = ("kind", "feature", "policy", "reference")
    explored = Gauge("recloop_policy_exploration_ratio", ("policy",))
    asked = Gauge("recloop_policy_requests", ("policy",))
    return [
        Rule(
            "RewardLoss", "outcome", "critical",
            Compare(Gauge("recloop_reward_change_high"), "<", 0.0), 0.0,
        ),
        Rule(
            "Drift", "outcome", "warning",
            Compare(Gauge("recloop_drift_distance", of), ">", Gauge("recloop_drift_threshold", of)), 0.0,
        ),
        Rule(
            "UserModelOff", "outcome", "warning",
            Compare(Gauge("recloop_user_model_error", ("act", "policy")), ">", OFF), 0.0,
        ),
        Rule(
            "ExplorationLost", "outcome", "warning",
            All((Compare(explored, "<", params.serving.exploration / 2), Compare(asked, ">", ENOUGH))),
            300.0,
        ),
        Rule(
            "ExporterDown", "outcome", "warning",
            Compare(Gauge("up", ("instance",), {"job": "recloop-watch"}), "==", 0.0), 300.0,
        ),
        Rule(
            "TrainingOld", "outcome", "warning",
            Compare(Gauge("recloop_training_age_seconds"), ">", 3 * DAY), 300.0,
        ),
    ]  # fmt: skip

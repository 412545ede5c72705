"""The alerts, declared once: Prometheus's rules are generated from them, and ``evaluate`` reads them itself.

Another alert is a ``Rule`` here, a page in docs/runbooks and its cases in infra/prometheus/rules.test.yml. A
fault is told of on the lowest layer that shows it; what it causes on the layers above is inhibited.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from recloop.settings.params import Params
from recloop.watch.expressions import All, Both, Compare, Expression, Gauge, Increase, Seen
from recloop.watch.objectives import objectives

Layer = Literal["platform", "serving", "objective", "inputs", "outcome", "rollout"]
INHIBITS: Mapping[str, tuple[Layer, ...]] = {
    "platform": ("serving", "objective", "inputs", "outcome"),
    "serving": ("objective", "outcome"),
    "inputs": ("outcome",),
}
HOUR, DAY = 3600.0, 86400.0
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
        summary: with ``{label}`` and ``{value|percent}``, ``{value|time}`` or ``{value|number}``.
    """

    name: str
    layer: Layer
    severity: Literal["warning", "critical"]
    when: Expression
    hold: float
    summary: str


@dataclass(frozen=True)
class Alert:
    """Something that a person should look at.

    Attributes:
        name: of the rule with its labels; the same for the same cause, so that it is not sent again at once.
        severity: how soon.
        summary: what happened and what to do.
        figures: what it was concluded from.
        layer: as its rule's.
        hold: seconds that it must last before anybody is told.
    """

    name: str
    severity: Literal["warning", "critical"]
    summary: str
    figures: Mapping[str, float]
    layer: Layer = "outcome"
    hold: float = field(default=0.0, compare=False)


def rules(params: Params) -> list[Rule]:
    """All of them, with the limits of params.yaml."""
    return [*_platform(), *_serving(params), *objectives(params, Rule), *_inputs(params), *_outcome(params)]


def evaluate(declared: list[Rule], seen: Seen) -> list[Alert]:
    """What holds now, however long it has."""
    return [
        Alert(
            name=rule.name + "".join(f" {name}={value}" for name, value in labels if value),
            severity=rule.severity,
            summary=said(rule.summary, dict(labels), value),
            figures={"value": value},
            layer=rule.layer,
            hold=rule.hold,
        )
        for rule in declared
        for labels, value in sorted(rule.when.value(seen).items())
    ]


def said(summary: str, labels: Mapping[str, str], value: float) -> str:
    """The sentence of one case."""
    shown = {"percent": f"{100 * value:.4g}%", "time": _time(value), "number": f"{value:.4g}"}
    return re.sub(
        r"\{(\w+)(?:\|(\w+))?\}", lambda m: shown[m[2]] if m[1] == "value" else labels.get(m[1], ""), summary
    )


def _platform() -> list[Rule]:
    return [
        Rule(
            "GatewayDown", "platform", "critical",
            Compare(Gauge("up", ("instance",), {"job": "recloop-gateway"}), "==", 0.0), 60.0,
            "{instance} does not answer: `recloop status`, then its log under RECLOOP_HOME/logs",
        ),
        Rule(
            "StoreUnreadable", "platform", "critical",
            Compare(Gauge("recloop_routing_stale_seconds", ("instance",)), ">", 10.0), 60.0,
            "{instance} has not read the store for {value|time}: rollouts do not reach it",
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
    return [
        Rule(
            "SlotFails", "serving", "critical",
            All((Compare(Both(failed, "/", asked), ">", allowed), Compare(asked, ">", least))),
            60.0, "slot {slot} ({policy}) fails {value|percent} of its requests",
        ),
        Rule(
            "Fallbacks", "serving", "critical",
            Compare(Both(fallbacks, "/", Both(given, "+", fallbacks)), ">", allowed),
            60.0, "no slot answers {value|percent} of the requests: people get the most popular items",
        ),
        Rule(
            "SlotSlow", "serving", "warning",
            All((Compare(Both(Both(count, "-", fast), "/", count), ">", 0.01), Compare(count, ">", least))),
            120.0, f"slot {{slot}} ({{policy}}) needs more than {limits.max_p99_ms:g} ms"
            " for {value|percent} of its requests",
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
            300.0, "{value|percent} of the feedback is quarantined: `recloop quarantine list`",
        ),
        Rule(
            "Quarantined", "inputs", "warning",
            Compare(Gauge("recloop_quarantined_ratio"), ">", tolerated), 300.0,
            "{value|percent} of the last day's rows were refused: `recloop quarantine list`",
        ),
        Rule(
            "FeedbackQuiet", "inputs", "critical",
            Compare(Gauge("recloop_feedback_age_seconds"), ">", DAY), 300.0,
            "no feedback for {value|time}: is the storefront up, do its events reach the gateway?",
        ),
        Rule(
            "FlowFails", "outcome", "warning",
            Compare(Gauge("recloop_flow_failures", ("flow",)), ">=", 2.0), 0.0,
            "flow {flow} has failed {value|number} times in a row: its log is in Prefect",
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
            "reward per request fell by {value|number} or more since training (95 %): look at the last"
            " rollout, or retrain",
        ),
        Rule(
            "Drift", "outcome", "warning",
            Compare(Gauge("recloop_drift_distance", of), ">", Gauge("recloop_drift_threshold", of)), 0.0,
            "{kind}: {feature} is {value|number} away from {reference}: look at it, or retrain",
        ),
        Rule(
            "UserModelOff", "outcome", "warning",
            Compare(Gauge("recloop_user_model_error", ("act", "policy")), ">", OFF), 0.0,
            "{policy}: people do {act} at another rate than the user model told, by a factor of 1.25 at"
            " least: retrain",
        ),
        Rule(
            "ExplorationLost", "outcome", "warning",
            All((Compare(explored, "<", params.serving.exploration / 2), Compare(asked, ">", ENOUGH))),
            300.0, "{policy} explores with {value|percent} of its picks: what it logs cannot be learnt from",
        ),
        Rule(
            "ExporterDown", "outcome", "warning",
            Compare(Gauge("up", ("instance",), {"job": "recloop-watch"}), "==", 0.0), 300.0,
            "{instance} does not tell of rewards, data and drift: start `recloop watch exporter`",
        ),
        Rule(
            "TrainingOld", "outcome", "warning",
            Compare(Gauge("recloop_training_age_seconds"), ">", 3 * DAY), 300.0,
            "nothing was trained for {value|time}: see the flow `retrain` in Prefect",
        ),
    ]  # fmt: skip


def _time(seconds: float) -> str:
    for size, unit in ((DAY, "days"), (HOUR, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} seconds"

"""Service objectives, and alerts on how fast their error budgets burn.

An objective promises a share of good requests over 30 days; its budget is what may be bad. A burn rate of 1
uses it up in 30 days. Somebody is told where it burns fast over a long window and still does over a short one
(Beyer et al., "The Site Reliability Workbook", O'Reilly 2018, chapter 5, table 5-8): 2 % of the budget within
an hour, 5 % within six hours, 10 % within three days.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from recloop.settings.params import Params
from recloop.watch.expressions import All, Both, Compare, Either, Expression, Increase

BURNS = (
    (14.4, 3600.0, 300.0),
    (6.0, 21600.0, 1800.0),
    (1.0, 259200.0, 21600.0),
)  # factor, long, short window
LEAST = 20.0  # requests in the short window, below which one failure would decide


@dataclass(frozen=True)
class Objective:
    """A promise about answers.

    Attributes:
        name: of its alerts, ``<name>Burn`` and ``<name>SlowBurn``.
        target: share of good requests.
        limits: figures of its alerts' sentences.
        bad: requests that were not good, within a window of seconds.
        total: all that count.
    """

    name: str
    target: float
    limits: Mapping[str, float]
    bad: Callable[[float], Expression]
    total: Callable[[float], Expression]

    def burns(self, factor: float, window: float) -> Expression:
        """The share of bad requests within the window, where the budget burns ``factor`` times too fast."""
        return Compare(Both(self.bad(window), "/", self.total(window)), ">", factor * (1 - self.target))


def declared(params: Params) -> tuple[Objective, ...]:
    """Availability: a slate by a policy, without an error. Latency: a slate in time."""
    within = f"{params.delivery.max_p99_ms / 1000:.10g}"
    route = {"route": "/recommend"}
    count = "recloop_gateway_seconds_count"

    def fallbacks(window: float) -> Expression:
        return Increase("recloop_fallbacks_total", window)

    def errors(window: float) -> Expression:
        return Increase("recloop_gateway_requests_total", window, route | {"status": "~5"})

    def slates(window: float) -> Expression:
        return Increase("recloop_slot_requests_total", window, {"outcome": "ok"})

    def slow(window: float) -> Expression:
        fast = Increase("recloop_gateway_seconds_bucket", window, route | {"le": within})
        return Both(Increase(count, window, route), "-", fast)

    targets = params.watch
    return (
        Objective(
            "Availability",
            targets.availability,
            {"target": targets.availability},
            lambda window: Both(fallbacks(window), "+", errors(window)),
            lambda window: Both(slates(window), "+", fallbacks(window)),
        ),
        Objective(
            "Latency",
            targets.in_time,
            {"target": targets.in_time, "limit": params.delivery.max_p99_ms},
            slow,
            lambda window: Increase(count, window, route),
        ),
    )


def objectives(params: Params, rule: Callable[..., Any]) -> list[Any]:
    """Two rules for each objective: one to get up for, one for working hours."""
    found = []
    for one in declared(params):
        fast, middle, slow = (
            All((one.burns(x, long), one.burns(x, short), Compare(one.total(short), ">", LEAST)))
            for x, long, short in BURNS
        )
        found += [
            rule(f"{one.name}Burn", "objective", "critical", Either((fast, middle)), 120.0, one.limits),
            rule(f"{one.name}SlowBurn", "objective", "warning", slow, 900.0, one.limits),
        ]
    return found

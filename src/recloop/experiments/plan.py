"""Plan first: how many people and days an experiment needs to see a lift that is worth having."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import samplesize_proportions_2indep_onetail

from recloop.experiments.group_sequential import Design, design


@dataclass(frozen=True)
class Plan:
    """What it takes to find one lift.

    Attributes:
        lift: smallest relative change worth having.
        effect: the same in the metric's unit.
        people: to plan for, control and treatment together.
        fixed: without looks on the way.
        days: until all of them have come.
        days_if_there: on average until a verdict, where the lift is there.
        days_if_not: on average until a verdict, where nothing is.
    """

    lift: float
    effect: float
    people: int
    fixed: int
    days: int
    days_if_there: float
    days_if_not: float


@dataclass(frozen=True)
class Assumptions:
    """What plans are made from.

    Attributes:
        mean: of the metric without the treatment.
        sd: of the metric over people; None: the metric is a rate, 0 or 1 per person.
        per_day: people a day who meet the experiment for the first time.
        share: treatment's share of them.
        alpha: two-sided.
        power: wanted.
        looks: with the last.

    Raises:
        ValueError: one of them is outside its range; the message says which.
    """

    mean: float
    sd: float | None
    per_day: float
    share: float = 0.5
    alpha: float = 0.05
    power: float = 0.8
    looks: int = 5

    def __post_init__(self) -> None:
        if self.sd is None and not 0 < self.mean < 1:
            raise ValueError(f"a rate lies between 0 and 1, not at {self.mean}: give its sd too")
        if self.sd is not None and not self.sd > 0:
            raise ValueError(f"the standard deviation must be positive, not {self.sd}")
        if not self.mean or not math.isfinite(self.mean):
            raise ValueError("a lift is relative to the baseline: it cannot be 0 or infinite")
        if self.per_day <= 0 or not 0 < self.share < 1:
            raise ValueError(f"per_day must be positive, share in (0, 1): not {self.per_day}, {self.share}")


def plan(given: Assumptions, lift: float) -> Plan:
    """People and days for one lift.

    The number without looks is statsmodels' for two independent means or rates; looks cost the design's
    inflation on top and save days on average.

    Raises:
        ValueError: the lift is 0, or takes a rate out of [0, 1].
    """
    effect, rest = given.mean * lift, (1 - given.share) / given.share
    if not lift or (given.sd is None and not 0 < given.mean + effect < 1):
        raise ValueError(f"a lift of {lift:+.1%} from {given.mean:g} leads nowhere")
    if given.sd is None:
        treated = samplesize_proportions_2indep_onetail(
            effect, given.mean, given.power, ratio=rest, alpha=given.alpha, alternative="two-sided"
        )
    else:
        treated = NormalIndPower().solve_power(
            abs(effect) / given.sd, alpha=given.alpha, power=given.power, ratio=rest
        )
    made: Design = design(given.looks, given.alpha, given.power)
    fixed = float(treated) * (1 + rest)
    people = fixed * made.inflation
    there, nothing = made.expected(made.drift), made.expected(0.0)
    return Plan(
        lift,
        effect,
        math.ceil(people),
        math.ceil(fixed),
        math.ceil(people / given.per_day),
        people * there / given.per_day,
        people * nothing / given.per_day,
    )


def plot(plans: Sequence[Plan], given: Assumptions, path: Path) -> None:
    """People by lift, and the days that they take to come, as an image."""
    ordered = sorted(plans, key=lambda one: one.lift)
    lifts = [100 * one.lift for one in ordered]
    figure = Figure(figsize=(6.5, 3.8), layout="constrained")
    axis = figure.subplots()
    for label, values, style in (
        ("planned", [one.days for one in ordered], "o-"),
        ("on average, if the lift is there", [one.days_if_there for one in ordered], "s--"),
        ("on average, if nothing is", [one.days_if_not for one in ordered], "^:"),
    ):
        axis.plot(lifts, values, style, label=label)
    axis.set(yscale="log", xlabel="smallest lift worth having, %", ylabel="days")
    right = axis.secondary_yaxis(
        "right",
        functions=(lambda d: np.multiply(d, given.per_day), lambda n: np.divide(n, given.per_day)),
    )
    right.set_ylabel("people")
    for scale in (axis.yaxis, right.yaxis):
        scale.set_major_locator(LogLocator(subs=(1, 2, 5)))
        scale.set_major_formatter("{x:,.0f}")
        scale.set_minor_formatter(NullFormatter())
    axis.legend(frameon=False)
    axis.spines["top"].set_visible(False)
    axis.set_title(
        f"baseline {given.mean:g}, power {given.power:.0%}, alpha {given.alpha:g}, {given.looks} looks,"
        f" {given.per_day:,.0f} people a day",
        fontsize=10,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})

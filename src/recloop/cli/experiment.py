"""Experiments: plan how many people, start, look, stop."""

import math
from dataclasses import asdict
from getpass import getuser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.experiments import catalogue
from recloop.experiments.assignment import BUCKETS
from recloop.experiments.metrics import METRICS, baseline, metric_named
from recloop.settings import load_params, places
from recloop.store import open_store

if TYPE_CHECKING:
    from recloop.experiments.plan import Assumptions
    from recloop.experiments.report import Line

LIFTS = (0.01, 0.02, 0.05, 0.1, 0.2)
PLOT = Path("reports/experiments/plan.png")
experiment = typer.Typer(no_args_is_help=True, help=__doc__)
Name = Annotated[str, typer.Argument(help="The experiment's name.")]
MetricName = Annotated[str, typer.Option(help=f"One of: {', '.join(METRICS)}.")]
Alpha = Annotated[float, typer.Option(help="Probability of a false win or loss, over all looks.")]
Power = Annotated[float, typer.Option(help="Probability of a win where the lift is there.")]
Looks = Annotated[int, typer.Option(min=1, max=50, help="Looks at the primary metric, with the last.")]
Why = Annotated[str, typer.Option(help="The reason, kept with the experiment.")]


@experiment.command()
def plan(
    metric: MetricName = "reward_per_request",
    days: Annotated[
        float, typer.Option(min=0.01, help="Days of the store that the baseline comes from.")
    ] = 14,
    mean: Annotated[float | None, typer.Option(help="Baseline, instead of the store's.")] = None,
    sd: Annotated[
        float | None, typer.Option(help="Its standard deviation; without one it is a rate.")
    ] = None,
    per_day: Annotated[float | None, typer.Option(help="New people a day, instead of the store's.")] = None,
    lift: Annotated[list[float] | None, typer.Option(help="Smallest relative change worth having.")] = None,
    share: Annotated[float, typer.Option(help="Treatment's share of the people.")] = 0.5,
    alpha: Alpha = 0.05,
    power: Power = 0.8,
    looks: Looks = 5,
    out: Annotated[Path, typer.Option(help="Where the plot goes.")] = PLOT,
    json_: AsJson = False,
) -> None:
    """How many people and days it takes, for several lifts, with a plot."""
    from recloop.experiments.plan import Assumptions, plot  # statsmodels and matplotlib take seconds
    from recloop.experiments.plan import plan as plan_one

    try:
        if mean is None or per_day is None:
            found = baseline(open_store(places().store), metric_named(metric), load_params().reward, days)
            mean, sd, per_day = (
                (found.mean, found.sd, per_day or found.per_day)
                if mean is None
                else (mean, sd, found.per_day)
            )
        given = Assumptions(mean, sd, per_day, share, alpha, power, looks)
        plans = [plan_one(given, one) for one in lift or LIFTS]
    except ValueError as error:
        stop(str(error))
    plot(plans, given, out)
    if json_:
        as_json({"given": asdict(given), "plans": [asdict(one) for one in plans], "plot": str(out)})
        return
    columns = ["lift", "effect", "people", "days", "days if it is there", "days if nothing is", "one look"]
    rows = [
        dict(
            zip(
                columns,
                (
                    f"{one.lift:+.1%}", f"{one.effect:+.4g}", f"{one.people:,}", f"{one.days:,}",
                    f"{one.days_if_there:,.1f}", f"{one.days_if_not:,.1f}", f"{one.fixed:,}",
                ),
                strict=True,
            )
        )
        for one in plans
    ]  # fmt: skip
    as_table(rows, columns, _title(given))
    print(f"round days up to whole weeks, so that each weekday counts alike; plot: {out}")


def _title(given: "Assumptions") -> str:
    sd = "a rate" if given.sd is None else f"sd {given.sd:.4g}"
    return (
        f"baseline {given.mean:.4g} ({sd}), {given.per_day:,.0f} new people a day, power {given.power:.0%},"
        f" alpha {given.alpha:g}, {given.looks} looks"
    )


@experiment.command("list")
def list_(json_: AsJson = False) -> None:
    """Every experiment, newest first."""
    found = catalogue.listed(open_store(places().store))
    if json_:
        as_json([one.model_dump() for one in found])
        return
    rows = [
        {
            "name": one.experiment.name,
            "state": one.state,
            "layer": f"{one.experiment.layer} {one.experiment.first}-{one.experiment.last - 1}",
            "arms": ", ".join(f"{name} {share:.0%}" for name, share in one.experiment.arms.items()),
            "primary": one.experiment.primary,
            "people": f"{one.experiment.people:,}",
            "looks": f"{len(one.looks)} of {one.experiment.looks}",
        }
        for one in found
    ]
    as_table(rows, ["name", "state", "layer", "arms", "primary", "people", "looks"])


@experiment.command()
def start(
    name: Name,
    people: Annotated[int, typer.Option(help="Planned over all arms: see `recloop experiment plan`.")],
    effect: Annotated[
        float, typer.Option(help="The smallest difference worth having, in the metric's unit.")
    ],
    primary: MetricName = "reward_per_request",
    guardrail: Annotated[list[str] | None, typer.Option(help="A metric that must not get worse.")] = None,
    other: Annotated[list[str] | None, typer.Option(help="A metric to learn from.")] = None,
    arm: Annotated[list[str] | None, typer.Option(help="NAME=SHARE; the first is the control.")] = None,
    gives: Annotated[
        list[str] | None,
        typer.Option(
            help="ARM=WHAT the gateway does for its people: slate:8, policy:NAME or slot:green. It then"
            " exposes people itself."
        ),
    ] = None,
    layer: Annotated[str, typer.Option(help="Experiments of one layer share nobody.")] = "main",
    first: Annotated[int, typer.Option(help="First bucket of the layer.")] = 0,
    last: Annotated[int, typer.Option(help=f"Bucket after its last, of {BUCKETS}.")] = BUCKETS,
    alpha: Alpha = 0.05,
    power: Power = 0.8,
    looks: Looks = 5,
    why: Why = "started by hand",
    json_: AsJson = False,
) -> None:
    """Claim buckets of a layer and begin."""
    try:
        words = dict(one.split("=", 1) for one in arm or ["control=0.5", "treatment=0.5"])
        wanted = catalogue.Experiment(
            name=name, layer=layer, first=first, last=last,
            arms={one: float(share) for one, share in words.items()},
            primary=primary, guardrails=tuple(guardrail or ()), others=tuple(other or ()),
            people=people, effect=effect, looks=looks, alpha=alpha, power=power,
            gives=dict(one.split("=", 1) for one in gives or ()),
        )  # fmt: skip
        found = catalogue.start(open_store(places().store), wanted, getuser(), why)
    except ValidationError as error:
        stop("; ".join(f"{'.'.join(map(str, e['loc'])) or name}: {e['msg']}" for e in error.errors()))
    except ValueError:
        stop(
            "an arm is NAME=SHARE, for example --arm control=0.5 --arm treatment=0.5, and what it gives is"
            " ARM=WHAT, for example --gives treatment=slate:8"
        )
    except catalogue.Conflict as error:
        stop(str(error))
    if json_:
        as_json(found.model_dump())
    else:
        print(f"{name} runs in buckets {first} to {last - 1} of layer {layer}")


@experiment.command()
def widen(
    name: Name, last: Annotated[int, typer.Option(help=f"New bucket after its last, of {BUCKETS}.")]
) -> None:
    """Take more buckets of the layer; everybody stays in their arm."""
    try:
        catalogue.widen(open_store(places().store), name, last)
    except catalogue.Conflict as error:
        stop(str(error))
    print(f"{name} runs until bucket {last - 1}")


@experiment.command()
def report(
    name: Name,
    language: Annotated[Literal["en", "ko"], typer.Option(help="Of the verdict.")] = "en",
    json_: AsJson = False,
) -> None:
    """What the experiment says now, and what to do; a look that is due is taken and kept."""
    from recloop.experiments import report as reports  # statsmodels takes seconds
    from recloop.experiments.verdict import sentences

    engine = open_store(places().store)
    try:
        found = reports.report(engine, catalogue.find(engine, name), load_params().reward)
    except catalogue.Conflict as error:
        stop(str(error))
    if json_:
        as_json(asdict(found) | {"verdict": {"en": sentences(found, "en"), "ko": sentences(found, "ko")}})
        return
    for sentence in sentences(found, language).values():
        print(sentence)
    rows = [_row(line) for line in found.lines]
    as_table(rows, list(rows[0]))
    sizes = ", ".join(f"{arm} {count:,}" for arm, count in found.people.items())
    print(f"people: {sizes} of {found.planned:,}; p of these sizes {found.ratio_p:.2g}")


def _row(line: "Line") -> dict[str, Any]:
    gap = line.gap
    known = math.isfinite(gap.low)
    return {
        "metric": line.metric,
        "role": line.role,
        "arm": line.arm,
        "control": f"{gap.control:.4g}" if known else None,
        "with it": f"{gap.treatment:.4g}" if known else None,
        "difference": f"{gap.difference:+.4g}" if known else None,
        "bounds": f"{gap.low:+.4g} to {gap.high:+.4g}" if known else "too few people",
        "p": "at its looks" if line.p is None else f"{line.p:.2g}",
    }


@experiment.command("stop")
def stop_(name: Name, why: Why = "stopped by hand") -> None:
    """End it: nobody is in an arm any more, and its buckets are free."""
    try:
        catalogue.stop(open_store(places().store), name, getuser(), why)
    except catalogue.Conflict as error:
        stop(str(error))
    print(f"{name} is stopped")

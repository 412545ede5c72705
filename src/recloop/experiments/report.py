"""What an experiment says now: guardrails at any time, the primary metric at its planned looks."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from sqlalchemy import Engine, func, select

from recloop.experiments.catalogue import Experiment, Look, Outcome, Standing, note_look
from recloop.experiments.cuped import adjusted
from recloop.experiments.difference import Clusters, Difference, Welch, bounded
from recloop.experiments.group_sequential import CLOSEST, Bounds, Design, design
from recloop.experiments.metrics import METRICS, Sample, measure
from recloop.experiments.multiple import corrected
from recloop.experiments.sequence import effective, sample_ratio, watched
from recloop.settings.params import RewardParams
from recloop.store.consent import stays
from recloop.store.tables import exposures

Role = Literal["primary", "guardrail", "other"]
BROKEN = 0.001  # p value below which the sizes of the arms are no accident
NOBODY = Clusters(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Line:
    """One metric of one arm against the control.

    Attributes:
        metric: its name.
        role: what the metric is for.
        arm: which.
        gap: arm minus control, adjusted by what people did before; the bounds hold at all looks together.
        p: always valid, corrected for the number of guardrails (Holm) or of other metrics (Benjamini and
            Hochberg); None for the primary metric, which is compared with the bounds of its looks.
    """

    metric: str
    role: Role
    arm: str
    gap: Difference
    p: float | None


@dataclass(frozen=True)
class Report:
    """All that a verdict needs.

    Attributes:
        name: the experiment's.
        people: exposed so far, by arm.
        planned: people in all.
        effect: the smallest difference worth having, in the primary metric's unit.
        next_look: people at which the primary metric is tested next; None where it never is again.
        ratio_p: always-valid p value of the arms' sizes.
        outcomes: by arm other than the control.
        hurt: guardrails that got worse, by arm.
        lines: the figures.
    """

    name: str
    people: Mapping[str, int]
    planned: int
    effect: float
    next_look: int | None
    ratio_p: float
    outcomes: Mapping[str, Outcome]
    hurt: Mapping[str, tuple[str, ...]]
    lines: tuple[Line, ...]


def report(engine: Engine, standing: Standing, reward: RewardParams) -> Report:
    """Read the store, test what is due, and note the look where the primary metric was tested.

    Raises:
        Conflict: somebody else has looked at the same moment.
    """
    here = standing.experiment
    samples = {
        name: measure(engine, METRICS[name], reward, here.name, standing.ended) for name in here.metrics
    }
    found, look = judge(standing, _exposed(engine, here), samples)
    if look is not None:
        note_look(engine, standing, look)
    return found


def glance(engine: Engine, standing: Standing, reward: RewardParams) -> Report:
    """The figures as they are, with what the looks so far have said: nothing is tested, nothing is noted."""
    here = standing.experiment
    samples = {
        name: measure(engine, METRICS[name], reward, here.name, standing.ended) for name in here.metrics
    }
    still = standing.model_copy(update={"state": "stopped"})
    return judge(still, _exposed(engine, here), samples)[0]


def judge(
    standing: Standing, people: Mapping[str, int], samples: Mapping[str, Mapping[str, Sample]]
) -> tuple[Report, Look | None]:
    """The report, and the look to note where one was due.

    Arms whose sizes are not the shares asked for block every verdict, and the primary metric is not
    tested. With several treatments alpha is split evenly among them (Bonferroni).
    """
    here = standing.experiment
    treatments = [name for name in here.arms if name != here.control]
    alpha = here.alpha / len(treatments)
    plan = design(here.looks, alpha, here.power)
    ratio_p = sample_ratio([people.get(name, 0) for name in here.arms], list(here.arms.values()))
    said = {name: _said(standing.looks, name) for name in treatments}
    pairs = {name: _pair(samples[here.primary], here.control, name) for name in treatments}
    times = [look.fraction for look in standing.looks]
    open_ = [name for name in treatments if said[name] == "keep_going"]
    may = ratio_p >= BROKEN and standing.state == "running" and open_
    now = _due(plan, times, sum(people.values()) / here.people) if may else None
    if now is None or not all(np.isfinite(Welch.of(*pairs[name]).error) for name in open_):
        bounds, look = None, None
    else:
        bounds = plan.bounds([*times, now])
        said |= {name: _tested(bounds, _z(here, *pairs[name])) for name in open_}
        look = Look(people=sum(people.values()), fraction=now, outcomes=said)
    lines: list[Line] = []
    for name in treatments:
        lines.append(_primary(here, pairs[name], name, alpha, bounds))
        for role in ("guardrail", "other"):
            lines += _watched(here, role, samples, name, alpha)
    hurt = {
        name: tuple(line.metric for line in lines if line.arm == name and _worse(line, alpha))
        for name in treatments
    }
    outcomes: dict[str, Outcome] = {
        name: "blocked" if ratio_p < BROKEN else "harmed" if hurt[name] else said[name] for name in treatments
    }
    last = look.fraction if look else max(times, default=0.0)
    later = [t for t in plan.fractions if t > last]
    next_look = math.ceil(later[0] * here.people) if later and set(said.values()) & {"keep_going"} else None
    found = Report(
        here.name, dict(people), here.people, here.effect, next_look, ratio_p, outcomes, hurt, tuple(lines)
    )
    return found, look


def _exposed(engine: Engine, here: Experiment) -> dict[str, int]:
    query = (
        select(exposures.c.arm, func.count().label("number"))
        .where(exposures.c.experiment == here.name, stays(exposures.c.user_id))
        .group_by(exposures.c.arm)
    )
    with engine.connect() as connection:
        counts = {row.arm: row.number for row in connection.execute(query)}
    return {name: counts.get(name, 0) for name in here.arms}


def _due(plan: Design, times: Sequence[float], now: float) -> float | None:
    """The information fraction to test at now; None where no look is due."""
    last = times[-1] if times else 0.0
    now = 1.0 if now > 1 - CLOSEST else now
    due = any(last < t <= now for t in plan.fractions)
    return now if due and now - last >= CLOSEST else None


def _said(looks: Sequence[Look], arm: str) -> Outcome:
    """The first end that a look came to; more people do not change it."""
    ends = (said for look in looks if (said := look.outcomes[arm]) != "keep_going")
    return next(ends, "keep_going")


def _tested(bounds: Bounds, z: float) -> Outcome:
    if z >= bounds.efficacy[-1]:
        return "win"
    if z <= -bounds.efficacy[-1]:
        return "lose"
    return "no_difference" if bounds.fractions[-1] >= 1 or z < bounds.futility[-1] else "keep_going"


def _pair(samples: Mapping[str, Sample], control: str, treatment: str) -> tuple[Clusters, Clusters]:
    """The two arms, with less variance by what people did before."""
    found = [samples[name] for name in (control, treatment) if name in samples]
    if len(found) < 2:
        return NOBODY, NOBODY
    one, other = adjusted([sample.people for sample in found], [sample.before for sample in found])
    return one, other


def _z(here: Experiment, control: Clusters, treatment: Clusters) -> float:
    """Z of the primary metric, turned so that above zero is better."""
    return Welch.of(control, treatment).z * _sign(here.primary)


def _primary(
    here: Experiment, pair: tuple[Clusters, Clusters], arm: str, alpha: float, bounds: Bounds | None
) -> Line:
    """The figures, with bounds that hold at all looks together.

    At a look this is the repeated confidence interval that goes with its bound (Jennison and Turnbull,
    "Interim analyses: the repeated confidence interval approach", JRSS B 51(3), 1989); between looks it
    is the confidence sequence.
    """
    if bounds is None:
        gap, _ = watched(*pair, _seen(here, pair, arm), alpha)
    else:
        gap = bounded(*pair, bounds.efficacy[-1])
    return Line(here.primary, "primary", arm, gap, None)


def _watched(
    here: Experiment,
    role: Literal["guardrail", "other"],
    samples: Mapping[str, Mapping[str, Sample]],
    arm: str,
    alpha: float,
) -> list[Line]:
    names = here.guardrails if role == "guardrail" else here.others
    found = {}
    for name in names:
        pair = _pair(samples[name], here.control, arm)
        found[name] = watched(*pair, _seen(here, pair, arm), alpha / len(names))
    p_values = corrected(
        {name: p for name, (_, p) in found.items()}, "holm" if role == "guardrail" else "fdr_bh"
    )
    return [Line(name, role, arm, gap, p_values[name]) for name, (gap, _) in found.items()]


def _seen(here: Experiment, pair: tuple[Clusters, Clusters], arm: str) -> float:
    """People of the two arms, to those planned."""
    planned = effective(here.people * here.arms[here.control], here.people * here.arms[arm])
    return effective(*(len(side.counts) for side in pair)) / planned


def _worse(line: Line, alpha: float) -> bool:
    if line.role != "guardrail" or line.p is None:
        return False
    return line.p <= alpha and _sign(line.metric) * line.gap.difference < 0


def _sign(metric: str) -> int:
    return 1 if METRICS[metric].better == "higher" else -1

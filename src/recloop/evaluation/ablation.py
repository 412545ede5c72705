"""What dropping a group of features costs, with intervals and a verdict in words."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from matplotlib.figure import Figure
from scipy import stats

NOTHING = 0.02  # share of the mean return; a loss that is surely smaller counts as none
Verdict = Literal["needed", "costs nothing to drop", "cannot tell"]
COLOURS: dict[Verdict, str] = {
    "needed": "#d55e00", "costs nothing to drop": "#009e73", "cannot tell": "#999999",
}  # fmt: skip


@dataclass(frozen=True)
class Effect:
    """What it does to hide a group.

    Attributes:
        group: its name.
        mean_return: of a session without it, mean over seeds.
        difference: that less the mean return with everything; below 0 it is missed.
        low: lower bound of the difference at 95 %.
        high: upper bound.
        verdict: in words.
    """

    group: str
    mean_return: float
    difference: float
    low: float
    high: float
    verdict: Verdict


def effects(everything: Sequence[float], without: Mapping[str, Sequence[float]]) -> list[Effect]:
    """One per group, what is missed most first; returns by seed, in the same order of seeds.

    The interval is Student's on the differences of pairs, a seed being a pair: hiding a group may change how
    much runs differ, so that nothing is pooled over groups.

    Raises:
        ValueError: fewer than two seeds, from which no interval comes.
    """
    seeds = len(everything)
    if seeds < 2:
        raise ValueError("an interval needs two seeds at least")
    full, reach = float(np.mean(everything)), stats.t.ppf(0.975, seeds - 1) / seeds**0.5
    found = []
    for name, returns in without.items():
        gaps = np.subtract(returns, everything)
        gap, half = float(gaps.mean()), float(reach * gaps.std(ddof=1))
        verdict = _verdict(gap - half, gap + half, full)
        found.append(Effect(name, full + gap, gap, gap - half, gap + half, verdict))
    return sorted(found, key=lambda one: one.difference)


def _verdict(low: float, high: float, full: float) -> Verdict:
    if low > -NOTHING * abs(full):
        return "costs nothing to drop"
    return "needed" if high < 0 else "cannot tell"


def write_ablation(found: Sequence[Effect], folder: Path) -> None:
    """Write ``ablation.csv`` and ``ablation.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ablation.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Effect)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(one) for one in found)
    figure = Figure(figsize=(7, 0.35 * len(found) + 1.2), layout="constrained")
    axis = figure.subplots()
    for verdict, colour in COLOURS.items():
        mine = [(place, one) for place, one in enumerate(reversed(found)) if one.verdict == verdict]
        if mine:
            places, rows = zip(*mine, strict=True)
            middle = [one.difference for one in rows]
            reach = [one.high - one.difference for one in rows]
            axis.errorbar(middle, places, xerr=reach, fmt="o", color=colour, capsize=3, label=verdict)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(found)), [one.group for one in reversed(found)])
    axis.set_xlabel("what hiding it does to the mean return of a session, 95 % interval")
    axis.grid(axis="x", alpha=0.3)
    axis.legend(fontsize="small")
    figure.savefig(folder / "ablation.png", dpi=120)

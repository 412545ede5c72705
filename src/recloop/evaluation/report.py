"""The evaluation of one policy against the baselines: figures, table and plot."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm import tqdm

from recloop.evaluation.judge import Judge
from recloop.evaluation.translate import sampler_for
from recloop.evaluation.value import Returns, paired
from recloop.market import GroundTruth
from recloop.policy import Policy

LEARNED = "policy"
TITLES = {
    "user_model": "in the user model of held-out people",
    "truth": "in the market itself (no gate reads this)",
}
COLOURS = {LEARNED: "#0072b2", "random": "#999999", "most_popular": "#e69f00", "myopic": "#009e73"}


def evaluate(judge: Judge, policy: Policy, truth: GroundTruth | None) -> dict[str, Any]:
    """All figures of ``evaluation.json``; ``truth`` must be attached to the judge's specification.

    ``user_model`` and, given the ``truth``, ``truth`` hold per policy ``value`` (mean return of a
    session), ``low``, ``high`` and the means of requests, clicks and purchases; ``lift`` holds the
    paired difference to each baseline in the user model, ``truth_lift`` in the truth; ``off_policy``
    and ``ranking`` hold the estimates and metrics per policy.
    """
    samplers = {LEARNED: sampler_for(policy, judge.spec), **judge.baselines()}
    markets = {"user_model": judge.unseen} | ({"truth": truth} if truth else {})
    figures: dict[str, Any] = {
        "algorithm": policy.manifest.algorithm,
        "people": judge.params.evaluation.users,
    }
    bar = tqdm(total=len(samplers) * (len(markets) + 1), desc="evaluate", unit="part", mininterval=1)
    for where, market in markets.items():
        returns: dict[str, Returns] = {}
        for name, sampler in samplers.items():
            returns[name] = judge.value(sampler, market)
            bar.update()
        figures[where] = {name: found.figures() for name, found in returns.items()}
        lift = {name: paired(found, returns[LEARNED]) for name, found in returns.items() if name != LEARNED}
        figures["lift" if where == "user_model" else "truth_lift"] = {
            name: {key: gap[key] for key in ("difference", "low", "high")} for name, gap in lift.items()
        }
    figures["off_policy"], figures["ranking"] = {}, {}
    for name, sampler in samplers.items():
        figures["off_policy"][name] = judge.off_policy(sampler)
        figures["ranking"][name] = judge.ranking(sampler)
        bar.update()
    bar.close()
    return figures


def write_report(figures: dict[str, Any], folder: Path) -> None:
    """Write ``evaluation.json``, ``value.csv`` and ``evaluation.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1, allow_nan=False)
    (folder / "evaluation.json").write_text(text + "\n")
    with (folder / "value.csv").open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("policy", "value", "low", "high", "where"))
        for where in _places(figures):
            for name, row in figures[where].items():
                table.writerow((name, *(round(row[key], 6) for key in ("value", "low", "high")), where))
    _plot(figures, folder / "evaluation.png")


def _places(figures: dict[str, Any]) -> list[str]:
    return [where for where in TITLES if where in figures]


def _plot(figures: dict[str, Any], path: Path) -> None:
    places = _places(figures)
    figure = Figure(figsize=(5.5 * len(places), 3.4), layout="constrained")
    for axis, where in zip(figure.subplots(1, len(places), squeeze=False)[0], places, strict=True):
        rows = sorted(figures[where].items(), key=lambda row: row[1]["value"])
        values = np.array([row["value"] for _, row in rows])
        errors = np.abs(np.array([[row["low"], row["high"]] for _, row in rows]).T - values)
        axis.barh(
            [_label(name, figures["algorithm"]) for name, _ in rows],
            values,
            xerr=errors,
            color=[COLOURS[name] for name, _ in rows],
            capsize=4,
        )
        for y, (value, error) in enumerate(zip(values, errors[1], strict=True)):
            axis.text(value + error, y, f"  {value:.2f}", va="center")
        axis.margins(x=0.15)
        axis.set_xlabel("mean return of a session, 95 % interval")
        axis.set_title(TITLES[where], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"What a policy is worth ({figures['people']} people)")
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _label(name: str, algorithm: str) -> str:
    return f"policy ({algorithm})" if name == LEARNED else name.replace("_", " ")

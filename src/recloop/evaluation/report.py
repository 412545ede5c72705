"""The evaluation of one policy against the baselines: figures, and the files that show them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from recloop.evaluation import charts
from recloop.evaluation.charts import LEARNED, places
from recloop.evaluation.judge import RANKED, Judge
from recloop.evaluation.leakage import refuse
from recloop.evaluation.page import page
from recloop.evaluation.protocols import leave_last_out
from recloop.evaluation.ranking import top_k
from recloop.evaluation.slices import slices
from recloop.evaluation.translate import sampler_for
from recloop.evaluation.value import Returns, oracle_value, paired
from recloop.market import GroundTruth
from recloop.policy import Policy, Sampler

SHOWN = 5  # people whose best items the page shows


def evaluate(judge: Judge, policy: Policy, truth: GroundTruth | None) -> dict[str, Any]:
    """All figures of ``evaluation.json``; ``truth`` must be attached to the judge's specification.

    ``user_model`` and, given the ``truth``, ``truth`` hold per policy ``value`` (mean return of a
    session), ``low``, ``high`` and the means of requests, clicks, purchases and, where the market knows it,
    satisfaction; ``lift`` holds the paired difference to each baseline in the user model, ``truth_lift`` in
    the truth, ``regret`` that of an oracle to each policy there; ``slices`` the differences to the best
    baseline (``rival``) in parts of the people; ``off_policy`` the estimates, ``ranking`` and
    ``ranking_later`` the metrics per policy.

    Raises:
        LeakageError: the held-out people's features know what came later.
    """
    refuse(judge.leaks())
    samplers = {LEARNED: sampler_for(policy, judge.spec), **judge.baselines()}
    markets = {"user_model": judge.unseen} | ({"truth": truth} if truth else {})
    figures: dict[str, Any] = {
        "policy": policy.manifest.name,
        "algorithm": policy.manifest.algorithm,
        "people": judge.params.evaluation.users,
    }
    parts = len(samplers) * (len(markets) + 1) + (truth is not None)
    bar = tqdm(total=parts, desc="evaluate", unit="part", mininterval=1)
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
        if where == "user_model":
            figures |= _by_slice(judge, returns)
    if truth is not None:
        figures["regret"] = _regret(judge, truth, returns)
        bar.update()
    figures["off_policy"], figures["ranking"], figures["ranking_later"] = {}, {}, {}
    for name, sampler in samplers.items():
        figures["off_policy"][name] = judge.off_policy(sampler)
        figures["ranking"][name] = judge.ranking(sampler)
        figures["ranking_later"][name] = judge.ranking_later(sampler)
        bar.update()
    bar.close()
    figures["ranking_later_leaks"] = [leak.why for leak in judge.later_leaks()]
    return figures | {"samples": _samples(judge, samplers[LEARNED])}


def _by_slice(judge: Judge, returns: dict[str, Returns]) -> dict[str, Any]:
    baselines = {name: found.reward.mean() for name, found in returns.items() if name != LEARNED}
    rival = max(baselines, key=baselines.__getitem__)
    rows = slices(returns[LEARNED], returns[rival], judge.spec, judge.items)
    return {"rival": rival, "slices_lost": sum(row["loses"] for row in rows), "slices": rows}


def _regret(judge: Judge, truth: GroundTruth, returns: dict[str, Returns]) -> dict[str, dict[str, float]]:
    """Per policy what the oracle earns more, with its interval, and what share of its value is reached."""
    people, slate = judge.params.evaluation.users, judge.params.serving.slate
    oracle = oracle_value(truth, people, slate, judge.params.market.horizon, judge.seed)
    gaps = {name: paired(found, oracle) for name, found in returns.items()}
    return {
        name: {
            "regret": gap["difference"],
            "low": gap["low"],
            "high": gap["high"],
            "oracle": gap["challenger"],
            "share_reached": gap["champion"] / gap["challenger"],
        }
        for name, gap in gaps.items()
    }


def _samples(judge: Judge, sampler: Sampler) -> list[dict[str, list[str]]]:
    """Titles of what the first held-out people acted on last, and of the best items for them."""
    hidden = leave_last_out(judge.steps, len(judge.spec.item_ids))
    observation = {name: x[:SHOWN] for name, x in hidden.observation.items()}
    if not len(hidden):
        return []
    excluded = hidden.consumed(slice(0, min(SHOWN, len(hidden))))
    top = top_k(sampler.score(observation), RANKED // 2, np.random.default_rng(judge.seed), excluded)
    titles = [item.title for item in judge.items]
    return [
        {"history": [titles[i] for i in past if i < len(titles)][:3], "slate": [titles[i] for i in slate]}
        for past, slate in zip(observation["history"].tolist(), top.tolist(), strict=True)
    ]


def write_report(figures: dict[str, Any], folder: Path, curve: Path | None = None) -> None:
    """Write ``evaluation.json``, ``.html`` and ``.png``, ``value.csv`` and ``slices.csv``.

    ``curve`` is the training's ``learning_curve.csv``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(figures, indent=1, allow_nan=False)
    (folder / "evaluation.json").write_text(text + "\n")
    values = [
        (f"{name}, {where}", *(round(row[key], 6) for key in ("value", "low", "high")))
        for where in places(figures)
        for name, row in figures[where].items()
    ]
    _table(folder / "value.csv", ("policy", "value", "low", "high"), values)
    parts = [(f"{r['by']}: {r['value']}", r["difference"], r["low"], r["high"]) for r in figures["slices"]]
    _table(folder / "slices.csv", ("slice", "difference", "low", "high"), parts)
    charts.save_values(figures, folder / "evaluation.png")
    (folder / "evaluation.html").write_text(page(figures, _points(curve)), encoding="utf-8")


def _table(path: Path, head: tuple[str, ...], rows: list[tuple]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(head)
        table.writerows(rows)


def _points(curve: Path | None) -> list[tuple[float, float]]:
    if curve is None or not curve.exists():
        return []
    with curve.open() as file:
        return [(float(row["env_steps"]), float(row["mean_return"])) for row in csv.DictReader(file)]

"""Ablate: which features the policy needs, by training without each."""

import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from recloop.cli.show import AsJson, as_json, as_table, stop
from recloop.registry.nested import Part, log_nested
from recloop.settings import Params, load_params, places
from recloop.settings.params import AlgorithmName

if TYPE_CHECKING:
    from recloop.evaluation.ablation import Effect

PARAMS, EXPERIMENT = Path("params.yaml"), "recloop ablation"
FEATURES, USER_MODEL, REPORTS = (
    Path("data/features"),
    Path("models/user_model/train"),
    Path("reports/ablation"),
)


def ablate_command(
    seeds: Annotated[int, typer.Option(min=2, help="Trainings of each kind.")] = 3,
    algorithm: Annotated[str, typer.Option(help="Instead of agent.algorithm.")] = "",
    only: Annotated[str, typer.Option(help="Groups of features, with commas between; else all.")] = "",
    json_: AsJson = False,
) -> None:
    """Train without each group of features, and say which the policy needs."""
    from recloop.agents.ablate import (  # ray takes seconds to import
        EVERYTHING,
        TrainingError,
        ablate,
    )
    from recloop.evaluation.ablation import effects, write_ablation

    if not (FEATURES / "items.npz").exists() or not USER_MODEL.exists():
        stop("there is nothing to train on yet: run `dvc repro user_model` first")
    params, where = _params(algorithm), places()
    asked = [name.strip() for name in only.split(",") if name.strip()]
    try:
        with redirect_stdout(sys.stderr):  # what training says of its checkpoints is no part of the answer
            runs = ablate(params, FEATURES, USER_MODEL, where.home / "ablations", seeds, asked)
    except TrainingError as error:
        stop(str(error))
    returns: dict[str, dict[int, float]] = {}
    for run in runs:
        returns.setdefault(run.group, {})[run.seed] = run.mean_return
    everything = returns.pop(EVERYTHING)
    found = effects([*everything.values()], {name: [*row.values()] for name, row in returns.items()})
    write_ablation(found, REPORTS)
    full = sum(everything.values()) / seeds
    curves = {EVERYTHING: everything} | returns
    run_id = log_nested(
        where, EXPERIMENT, f"ablation {params.agent.algorithm}", {"algorithm": params.agent.algorithm},
        {"mean_return": full}, _parts(found, curves), sorted(REPORTS.iterdir()),
    )  # fmt: skip
    if json_:
        as_json({"run": run_id, "everything": full, "groups": [asdict(one) for one in found]})
        return
    columns = ["without", "mean_return", "difference", "95 %", "verdict"]
    title = f"{params.agent.algorithm}, {seeds} seeds; with everything a session returns {full:.2f}"
    as_table([_row(one) for one in found], columns, title)
    print(f"{REPORTS}/ablation.png; MLflow run {run_id}")


def _params(algorithm: str) -> Params:
    params = load_params(PARAMS)
    if not algorithm:
        return params
    if algorithm not in get_args(AlgorithmName):
        stop(f"no algorithm is named {algorithm}; there are {', '.join(get_args(AlgorithmName))}")
    return params.model_copy(update={"agent": params.agent.model_copy(update={"algorithm": algorithm})})


def _parts(found: "list[Effect]", curves: dict[str, dict[int, float]]) -> list[Part]:
    """A nested run per group and one with everything: the return by seed, and what came of it."""
    parts = []
    told = {one.group: one for one in found}
    for name, returns in curves.items():
        metrics = {"mean_return": [*returns.items()]}
        tags = {}
        if name in told:
            one = told[name]
            tags["verdict"] = one.verdict
            for key in ("difference", "low", "high"):
                metrics[key] = [(0, getattr(one, key))]
        parts.append(Part(name, {"hidden": name if name in told else "nothing"}, metrics, tags))
    return parts


def _row(one: "Effect") -> dict[str, str]:
    return {
        "without": one.group,
        "mean_return": f"{one.mean_return:.2f}",
        "difference": f"{one.difference:+.2f}",
        "95 %": f"{one.low:+.2f} to {one.high:+.2f}",
        "verdict": one.verdict,
    }

"""Search: better parameters for the agent, proposed as a change of params.yaml."""

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recloop.cli.show import AsJson, as_table, stop
from recloop.cli.show import as_json as show_json
from recloop.registry.nested import Part, log_nested
from recloop.settings import load_params, places, proposed

if TYPE_CHECKING:
    from recloop.agents.tune import Trial

PARAMS, EXPERIMENT = Path("params.yaml"), "recloop search"
FEATURES, USER_MODEL, REPORTS = Path("data/features"), Path("models/user_model/train"), Path("reports/search")


def search_command(
    trials: Annotated[int, typer.Option(min=1, help="Trials in all; the first is params.yaml.")] = 20,
    at_once: Annotated[int, typer.Option(min=1, help="Trials side by side, a core each.")] = 1,
    write: Annotated[bool, typer.Option("--write", help="Change params.yaml to the best trial's.")] = False,
    json_: AsJson = False,
) -> None:
    """Search hyper-parameters and the network's architecture in the train people's user model."""
    from recloop.agents.tune import (  # ray takes seconds to import, and no other command needs it
        as_json,
        search,
    )

    if not (FEATURES / "items.npz").exists() or not USER_MODEL.exists():
        stop("there is nothing to train on yet: run `dvc repro user_model` first")
    params, where = load_params(PARAMS), places()
    found = search(params, FEATURES, USER_MODEL, where.home / "searches", trials, at_once)
    REPORTS.mkdir(parents=True, exist_ok=True)
    before, after = PARAMS.read_text(), proposed(PARAMS.read_text(), found[0].changes)
    change = "".join(
        difflib.unified_diff(before.splitlines(True), after.splitlines(True), "params.yaml", "params.yaml")
    )
    (REPORTS / "trials.json").write_text(as_json(found))
    (REPORTS / "params.diff").write_text(change)
    word = params.agent.algorithm
    run = log_nested(
        where, EXPERIMENT, f"search {word}", {"algorithm": word}, {"best_mean_return": found[0].score},
        [
            Part(f"{word} {rank}", trial.changes, {"mean_return": trial.curve})
            for rank, trial in enumerate(found, 1)
        ],
        sorted(REPORTS.iterdir()),
    )  # fmt: skip
    if write:
        PARAMS.write_text(after)
    if json_:
        show_json({"run": run, "best": vars(found[0]), "diff": change})
        return
    as_table([_row(trial) for trial in found[:10]], ["mean_return", "env_steps", "changes"], "best trials")
    said = (
        "params.yaml is changed"
        if write
        else "take it with --write, or `patch -p0 < reports/search/params.diff`"
    )
    print(f"{change or 'nothing beat params.yaml as it is'}\n{said}; MLflow run {run}")


def _row(trial: "Trial") -> dict[str, Any]:
    changes = ", ".join(f"{name}={_short(value)}" for name, value in trial.changes.items())
    return {"mean_return": f"{trial.score:.2f}", "env_steps": trial.env_steps, "changes": changes}


def _short(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)

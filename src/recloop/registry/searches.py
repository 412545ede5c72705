"""A search of parameters as MLflow shows it: one run, and a nested one per trial."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from recloop.registry.versions import connect
from recloop.settings import Places

EXPERIMENT = "recloop search"
SCORE = "mean_return"


def log_search(
    where: Places, algorithm: str, trials: Sequence[Mapping[str, Any]], files: Sequence[Path]
) -> str:
    """Log trials, best first, with the files as artifacts; returns the outer run's id.

    A trial has ``changes`` (values by name), ``score`` and ``curve`` (pairs of env steps and score).

    Raises:
        RegistryError: the registry cannot be opened.
    """
    client = connect(where)
    known = client.get_experiment_by_name(EXPERIMENT)
    place = (where.home / "mlartifacts").as_uri()
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT, place)
    outer = client.create_run(experiment, run_name=f"search {algorithm}", tags={"algorithm": algorithm})
    outer_id = outer.info.run_id
    client.log_metric(outer_id, f"best_{SCORE}", trials[0]["score"])
    for file in files:
        client.log_artifact(outer_id, str(file))
    for rank, trial in enumerate(trials, 1):
        tags = {"mlflow.parentRunId": outer_id, "algorithm": algorithm}
        run = client.create_run(experiment, run_name=f"{algorithm} {rank}", tags=tags)
        client.log_batch(
            run.info.run_id,
            params=[Param(name, str(value)) for name, value in trial["changes"].items()],
            metrics=[Metric(SCORE, score, 0, steps) for steps, score in trial["curve"]],
        )
        client.set_terminated(run.info.run_id)
    client.set_terminated(outer_id)
    return outer_id

"""Many trainings for one question, as MLflow shows them: one run, and a nested one for each part."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlflow.entities import Metric, Param

from recloop.registry.versions import connect
from recloop.settings import Places


@dataclass(frozen=True)
class Part:
    """A nested run: what was changed, and its metrics as (step, value) points."""

    name: str
    params: Mapping[str, object]
    metrics: Mapping[str, Sequence[tuple[int, float]]]
    tags: Mapping[str, str] = field(default_factory=dict)


def log_nested(
    where: Places,
    experiment: str,
    name: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    parts: Sequence[Part],
    files: Sequence[Path],
) -> str:
    """Log a run of an experiment with its parts, and files as artifacts; returns the outer run's id.

    Parts have the outer run's tags too.

    Raises:
        RegistryError: the registry cannot be opened.
    """
    client = connect(where)
    known = client.get_experiment_by_name(experiment)
    place = (where.home / "mlartifacts").as_uri()
    number = known.experiment_id if known else client.create_experiment(experiment, place)
    outer = client.create_run(number, run_name=name, tags=dict(tags)).info.run_id
    for metric, value in metrics.items():
        client.log_metric(outer, metric, value)
    for file in files:
        client.log_artifact(outer, str(file))
    for part in parts:
        own = {"mlflow.parentRunId": outer, **tags, **part.tags}
        run = client.create_run(number, run_name=part.name, tags=own).info.run_id
        points = [
            Metric(metric, value, 0, step) for metric, curve in part.metrics.items() for step, value in curve
        ]
        client.log_batch(run, points, [Param(key, str(value)) for key, value in part.params.items()])
        client.set_terminated(run)
    client.set_terminated(outer)
    return outer

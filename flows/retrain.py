"""Retrain: the offline graph as a Prefect flow, one task per DVC stage.

``python -m flows.retrain`` runs it once.
"""

import base64
import json
import re
from pathlib import Path

from dvc.repo import Repo
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_progress_artifact, update_progress_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from flows.alone import by_hand
from flows.graph import StageRun, patiently, run_stage, stages
from flows.mending import forget_what_is_gone
from flows.noting import NOTED
from recloop.evaluation.page import warnings
from recloop.registry import connect
from recloop.settings import places
from recloop.settings.workspace import workspace

FINAL = ("validate",)  # bad data stays bad: trying again does not help


def _may_retry(the_task: Task, _run: TaskRun, _state: State) -> bool:
    return the_task.name not in FINAL


@task(retries=1, retry_delay_seconds=5, retry_condition_fn=_may_retry)
def stage(name: str) -> StageRun:
    """One stage of dvc.yaml; nothing is run where nothing has changed."""
    logger = get_run_logger()
    done = run_stage(name, logger.info)
    logger.info("%s: %s in %.1f s", name, "ran" if done.ran else "unchanged", done.seconds)
    return done


@task
def version() -> str:
    """Push this data version to DVC's default remote; returns the snapshot's hash."""

    def push() -> str:
        with Repo(".") as repo:
            repo.push()
            (snapshot,) = repo.stage.collect("snapshot")
            return str(snapshot.outs[0].hash_info.value)

    return patiently(push)


@task
def report(runs: list[StageRun], data_version: str) -> str:
    """The figures of this run, its plot, and where to read more."""
    text = markdown(runs, data_version)
    create_markdown_artifact(text, key="retrain-report", description="what this run made")
    return text


def markdown(runs: list[StageRun], data_version: str) -> str:
    """The report's text, from the stages' own reports."""
    figures = json.loads(Path("reports/evaluation.json").read_text())
    registered = json.loads(Path("reports/registered.json").read_text())
    where = places()
    run_id = registered["run_id"]
    experiment = connect(where).get_run(run_id).info.experiment_id
    run = f"http://127.0.0.1:{where.mlflow_port}/#/experiments/{experiment}/runs/{run_id}"
    page = Path("reports/evaluation.html").resolve().as_uri()
    docs = Path("reports/data_docs/index.html").resolve().as_uri()
    plot = base64.b64encode(Path("reports/evaluation.png").read_bytes()).decode()
    lines = ["# Retrain", "", "| value of a session | mean | 95 % interval |", "|---|---|---|"]
    for place in ("user_model", "truth"):
        for name, row in figures.get(place, {}).items():
            lines.append(f"| {name} ({place}) | {row['value']:.2f} | {row['low']:.2f} to {row['high']:.2f} |")
    lines += ["", f"![value by policy](data:image/png;base64,{plot})", ""]
    lines += [f"- **warning**: {_plain(text)}" for text in warnings(figures)]
    lines += [f"- [the whole report]({page}); also an artifact of the MLflow run, `reports/evaluation.html`"]
    lines += [f"- data version `{data_version}`", f"- [MLflow run]({run}), version {registered['version']}"]
    lines += [f"- [data docs]({docs})", "", "| stage | | seconds |", "|---|---|---|"]
    lines += [f"| {r.name} | {'ran' if r.ran else 'unchanged'} | {r.seconds:.1f} |" for r in runs]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Text from data as Markdown that shows it and does nothing else."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|~&])", r"\\\1", text)


@flow(name="retrain", validate_parameters=False, **NOTED)
def retrain() -> list[StageRun]:
    """Run the offline graph. Of two runs at once the second waits, and finds nothing left to do."""
    with workspace(get_run_logger().info):
        forget_what_is_gone()
        names = stages()
        progress = create_progress_artifact(0.0, key="retrain-progress", description="stages done")
        runs: list[StageRun] = []
        for number, name in enumerate(names, 1):
            runs.append(stage.with_options(name=name)(name))
            update_progress_artifact(progress, 100 * number / len(names))  # type: ignore[arg-type]
        report(runs, version())
    return runs


if __name__ == "__main__":
    with by_hand():
        retrain()

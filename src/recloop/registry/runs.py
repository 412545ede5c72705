"""A training run as MLflow shows it: what went in, what came out, and the policy itself."""

import csv
import importlib.metadata
import json
import math
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource  # type: ignore[attr-defined]
from mlflow.entities import Metric, Param
from mlflow.models import infer_signature
from ruamel.yaml import YAML

from recloop.policy import Policy, load
from recloop.registry.versions import (
    DIGEST,
    MODEL,
    POLICY,
    Registered,
    connect,
    described,
    versions,
)
from recloop.settings import Params, Places

STAGES = ("validation", "features", "user_model", "training", "evaluation")
METRICS_AT_ONCE, PARAMS_AT_ONCE = 1000, 100  # more in one call, and MLflow refuses


@dataclass(frozen=True)
class Evidence:
    """What a run is recorded with.

    Attributes:
        params: all of params.yaml.
        reports: folder of the stages' reports; the numbers of ``STAGES`` become metrics, ``*.png``
            and the evaluation's page and JSON artifacts, and ``learning_curve.csv`` metrics by env step.
        watermark: the file that says which part of the store was used.
        lock: ``dvc.lock``, which holds the data version; may be absent.
    """

    params: Params
    reports: Path
    watermark: Path
    lock: Path


def register(where: Places, folder: Path, evidence: Evidence) -> Registered:
    """Log a run with a policy and all evidence, and make it the challenger.

    A policy that is registered already gets no second version, so the call may be repeated, also
    after it was killed.

    Raises:
        ArtefactError: the folder is not a sound policy.
        RegistryError: the registry cannot be opened.
    """
    policy = load(folder)
    client = connect(where)
    digest = policy.manifest.digest
    found = next((v for v in versions(client) if v.policy_sha256 == digest), None)
    if found is None:
        _end_abandoned(client, digest)
        found = _log(client, policy, folder, evidence)
    champion = client.get_registered_model(MODEL).aliases.get("champion")
    if str(champion) != str(found.version):
        client.set_registered_model_alias(MODEL, "challenger", str(found.version))
    return found


def _end_abandoned(client: MlflowClient, digest: str) -> None:
    """Mark the runs of this policy as killed that still seem to run: nobody works on them."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    query = f"tags.{DIGEST} = '{digest}' and attributes.status = 'RUNNING'"
    for run in client.search_runs(experiments, query):
        client.set_terminated(run.info.run_id, "KILLED")


def _log(client: MlflowClient, policy: Policy, folder: Path, evidence: Evidence) -> Registered:
    digest = {DIGEST: policy.manifest.digest}
    tags = digest | _code_version() | {"watermark": evidence.watermark.read_text()}
    with mlflow.start_run(run_name=policy.manifest.name, tags=tags) as run:
        run_id = run.info.run_id
        params = [Param(key, str(value)) for key, value in _leaves(evidence.params.model_dump())]
        for start in range(0, len(params), PARAMS_AT_ONCE):
            client.log_batch(run_id, params=params[start : start + PARAMS_AT_ONCE])
        metrics = [*_curve(evidence.reports / "learning_curve.csv"), *_figures(evidence.reports)]
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            client.log_batch(run_id, metrics=metrics[start : start + METRICS_AT_ONCE])
        mlflow.log_input(_dataset(evidence), context="training")
        for plot in sorted(evidence.reports.glob("*.png")):
            mlflow.log_artifact(str(plot), "plots")
        for page in sorted(evidence.reports.glob("evaluation.[hj]*")):
            mlflow.log_artifact(str(page), "reports")
        mlflow.log_artifacts(str(folder), POLICY)
        example = policy.spec.observation(None, [], "", 0)
        scorer = mlflow.onnx.log_model(
            onnx.load(folder / "scorer.onnx"),
            name="scorer",
            signature=infer_signature(example, {policy.output_name: policy.output(example)}),
            input_example=example,
            pip_requirements=[f"onnxruntime=={importlib.metadata.version('onnxruntime')}"],
            save_as_external_data=False,
        )
    if not client.search_registered_models(f"name = '{MODEL}'"):
        client.create_registered_model(MODEL)
    # With its digest from the first moment, so that a version is never taken for an unknown policy.
    version = client.create_model_version(
        MODEL, scorer.model_uri, run_id, tags=digest, model_id=scorer.model_id
    )
    return described(version)


def _leaves(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _metric(name: str, value: float, step: int) -> Metric:
    return Metric(re.sub(r"[^\w. /-]", "_", name), value, time.time_ns() // 1_000_000, step)


def _figures(reports: Path) -> Iterator[Metric]:
    for stage in STAGES:
        file = reports / f"{stage}.json"
        if file.exists():
            for key, value in _leaves(json.loads(file.read_text()), f"{stage}."):
                if isinstance(value, int | float) and math.isfinite(value):
                    yield _metric(key, float(value), 0)


def _curve(file: Path) -> Iterator[Metric]:
    with file.open() as handle:
        for row in csv.DictReader(handle):
            step = int(float(row.pop("env_steps")))
            for name, value in row.items():
                if value and math.isfinite(float(value)):
                    yield _metric(name, float(value), step)


def _dataset(evidence: Evidence) -> MetaDataset:
    """The data version: DVC's hash of the snapshot, or the watermark where DVC has not run."""
    mark = json.loads(evidence.watermark.read_text())
    digest = f"{mark['impressions']}-{mark['events']}-{mark['catalogue'][:12]}"
    if evidence.lock.exists():
        stages = YAML(typ="safe").load(evidence.lock).get("stages", {})
        outs = {out["path"]: out for out in stages.get("snapshot", {}).get("outs", [])}
        digest = outs.get("data/snapshot", {}).get("md5", digest)
    source = LocalArtifactDatasetSource(str(Path("data/snapshot").resolve()))
    return MetaDataset(  # type: ignore[abstract]
        source, name=f"{mark['source']} snapshot", digest=digest[:36]
    )


def _code_version() -> dict[str, str]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return {
        "git_commit": git("rev-parse", "HEAD") or "unknown",
        "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        "recloop": importlib.metadata.version("recloop"),
    }

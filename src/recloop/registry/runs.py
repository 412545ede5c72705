"""A training run as MLflow shows it: what went in, what came out, and the policy itself."""

import csv
import importlib.metadata
import json
import math
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import onnx
from mlflow import MlflowClient
from mlflow.data.meta_dataset import MetaDataset
from mlflow.data.sources import LocalArtifactDatasetSource
from mlflow.entities import Metric
from mlflow.models import infer_signature
from ruamel.yaml import YAML

from recloop.policy import Policy, load
from recloop.registry.versions import DIGEST, MODEL, POLICY, Registered, connect, described, versions
from recloop.settings import Params, Places


@dataclass(frozen=True)
class Evidence:
    """What a run is recorded with.

    Attributes:
        params: all of params.yaml.
        reports: folder of the stages' reports; ``*.json`` become metrics, ``*.png`` artifacts, and
            ``learning_curve.csv`` metrics by env step.
        watermark: the file that says which part of the store was used.
        lock: ``dvc.lock``, which holds the data version; may be absent.
    """

    params: Params
    reports: Path
    watermark: Path
    lock: Path


def register(where: Places, folder: Path, evidence: Evidence) -> Registered:
    """Log a run with a policy and all evidence, and make it the challenger.

    A policy that is registered already gets no second version.

    Raises:
        ArtefactError: the folder is not a sound policy.
    """
    policy = load(folder)
    client = connect(where)
    digest = policy.manifest.digest
    known = next((v for v in versions(client) if v.policy_sha256 == digest), None)
    found = known or _log(client, policy, folder, evidence)
    champion = client.get_registered_model(MODEL).aliases.get("champion")
    if str(champion) != str(found.version):
        client.set_registered_model_alias(MODEL, "challenger", str(found.version))
    return found


def _log(client: MlflowClient, policy: Policy, folder: Path, evidence: Evidence) -> Registered:
    with mlflow.start_run(run_name=policy.manifest.name) as run:
        mlflow.log_params(dict(_leaves(evidence.params.model_dump())))
        mlflow.set_tags(_code_version() | {DIGEST: policy.manifest.digest})
        mlflow.log_input(_dataset(evidence), context="training")
        _log_curve(client, run.info.run_id, evidence.reports / "learning_curve.csv")
        mlflow.log_metrics(dict(_figures(evidence.reports)))
        for plot in sorted(evidence.reports.glob("*.png")):
            mlflow.log_artifact(str(plot), "plots")
        mlflow.log_artifacts(str(folder), POLICY)
        example = policy.spec.observation(None, [], "", 0)
        info = mlflow.onnx.log_model(
            onnx.load(folder / "scorer.onnx"),
            name="scorer",
            signature=infer_signature(example, {"scores": policy.scores(example)}),
            input_example=example,
            pip_requirements=[f"onnxruntime=={importlib.metadata.version('onnxruntime')}"],
            save_as_external_data=False,
            registered_model_name=MODEL,
        )
    version = str(info.registered_model_version)
    client.set_model_version_tag(MODEL, version, DIGEST, policy.manifest.digest)
    return described(client.get_model_version(MODEL, version))


def _leaves(tree: Mapping, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _figures(reports: Path) -> Iterator[tuple[str, float]]:
    for file in sorted(reports.glob("*.json")):
        content = json.loads(file.read_text())
        if isinstance(content, Mapping):
            for key, value in _leaves(content, f"{file.stem}."):
                if isinstance(value, int | float) and math.isfinite(value):
                    yield key.replace("@", "_at_"), float(value)


def _log_curve(client: MlflowClient, run_id: str, file: Path) -> None:
    with file.open() as handle:
        rows = list(csv.DictReader(handle))
    metrics = [
        Metric(name, float(value), 0, int(float(row["env_steps"])))
        for row in rows
        for name, value in row.items()
        if name != "env_steps"
    ]
    client.log_batch(run_id, metrics=metrics)


def _dataset(evidence: Evidence) -> MetaDataset:
    """The data version: DVC's hash of the snapshot, or the watermark where DVC has not run."""
    mark = json.loads(evidence.watermark.read_text())
    digest = f"{mark['impressions']}-{mark['events']}-{mark['catalogue'][:12]}"
    if evidence.lock.exists():
        stages = YAML(typ="safe").load(evidence.lock).get("stages", {})
        outs = {out["path"]: out for out in stages.get("snapshot", {}).get("outs", [])}
        digest = outs.get("data/snapshot", {}).get("md5", digest)
    source = LocalArtifactDatasetSource(str(Path("data/snapshot").resolve()))
    return MetaDataset(source, name=f"{mark['source']} snapshot", digest=digest[:36])


def _code_version() -> dict[str, str]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    return {
        "git_commit": git("rev-parse", "HEAD") or "unknown",
        "git_dirty": str(bool(git("status", "--porcelain"))).lower(),
        "recloop": importlib.metadata.version("recloop"),
    }

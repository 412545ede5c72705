"""What a run keeps: everything that went in and came out, and no pickle."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from urllib.parse import urlparse

import mlflow
import numpy as np
import onnxruntime as ort
import pytest

from pipelines import register as stage
from recloop.policy import ArtefactError, load
from recloop.registry import (
    Evidence,
    Registered,
    RegistryError,
    connect,
    lineage,
    register,
    resolve,
    versions,
)
from recloop.settings import Places
from recloop.store import open_store
from recloop.store.lineage import lineage_of, lineages, note_lineage
from tests.registry.conftest import PARAMS, MakePolicy


def test_a_run_keeps_params_metrics_plots_data_and_code(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    folder = make_policy(1.0)
    found = register(where, folder, evidence)
    client = connect(where)
    run = client.get_run(found.run_id)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == load(folder).manifest.name
    assert run.data.params["seed"] == str(evidence.params.seed)
    assert run.data.params["agent.gamma"] == str(evidence.params.agent.gamma)
    assert run.data.metrics["training.final_return"] == 4.5
    assert run.data.metrics["evaluation.ranking.ndcg_5"] == 0.25
    assert "evaluation.value.policy" not in run.data.metrics  # NaN
    assert not any(name.startswith("registered.") for name in run.data.metrics)
    assert len(run.data.tags["git_commit"]) == 40
    assert run.data.tags["git_dirty"] in ("true", "false")
    assert json.loads(run.data.tags["watermark"])["events"] == 20
    assert [file.path for file in client.list_artifacts(found.run_id, "plots")] == ["plots/evaluation.png"]
    kept = [file.path for file in client.list_artifacts(found.run_id, "reports")]
    assert kept == ["reports/evaluation.html", "reports/evaluation.json"]
    (used,) = run.inputs.dataset_inputs
    assert used.dataset.digest == "0123456789abcdef0123456789abcdef.dir"
    assert used.dataset.name == "market snapshot"
    assert "data/snapshot" in used.dataset.source


def test_where_a_policy_comes_from_stands_in_the_store(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    counts = {"rows": 20, "kept": 18, "quarantined": 2, "expectations": {"event_id_unique": 2}}
    (evidence.reports / "validation.json").write_text(json.dumps({"success": 1, "events": counts}))
    found = register(where, make_policy(1.0), evidence)
    engine = open_store(where.store)
    told = lineage(connect(where), found)
    note_lineage(engine, told)
    note_lineage(engine, told)
    name = load(make_policy(1.0)).manifest.name
    assert lineages(engine) == [told]
    assert lineage_of(engine, name) == told
    assert lineage_of(engine, "another") is None
    assert (told.version, told.run_id, told.data_source) == (found.version, found.run_id, "market")
    assert told.data_version == "0123456789abcdef0123456789abcdef.dir"
    assert len(told.git_commit) == 40
    assert told.valid is True
    assert told.tables == {"events": {"rows": 20, "kept": 18, "quarantined": 2}}


def test_the_learning_curve_is_logged_by_step(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    found = register(where, make_policy(1.0), evidence)
    client = connect(where)
    curve = client.get_metric_history(found.run_id, "mean_return")
    assert {point.step: point.value for point in curve} == {step * 10: step / 2 for step in range(300)}
    assert [point.value for point in client.get_metric_history(found.run_id, "rare")] == [2]


def test_the_data_version_is_the_watermark_where_dvc_has_not_run(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    found = register(where, make_policy(1.0), replace(evidence, lock=Path("absent")))
    (used,) = connect(where).get_run(found.run_id).inputs.dataset_inputs
    assert used.dataset.digest == "50-20-ffffffffffff"


def test_the_registered_model_scores_as_the_policy_does(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    folder = make_policy(2.0)
    register(where, folder, evidence)
    uri = "models:/recloop-policy@challenger"
    model = mlflow.onnx.load_model(uri)
    policy = load(folder)
    observation = policy.spec.observation(None, ["b"], "phone", 10**15)
    (scores,) = ort.InferenceSession(model.SerializeToString()).run(["scores"], observation)
    np.testing.assert_array_equal(scores, policy.scores(observation))
    info = mlflow.models.get_model_info(uri)
    assert {column.name for column in info.signature.inputs} == {"profile", "context", "history"}
    assert [column.name for column in info.signature.outputs] == ["scores"]
    assert info.saved_input_example_info is not None


def test_nothing_that_is_stored_is_a_pickle(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    register(where, make_policy(1.0), evidence)
    files = [file for file in (where.home / "mlartifacts").rglob("*") if file.is_file()]
    assert {"model.onnx", "scorer.onnx", "manifest.json"} <= {file.name for file in files}
    for file in files:
        assert file.suffix not in (".pkl", ".pickle", ".pt", ".joblib"), file
        assert file.name != "python_model", file
        assert not file.read_bytes().startswith(b"\x80"), file  # the first byte of every pickle
        if file.suffix not in (".onnx", ".png"):
            assert b"cloudpickle" not in file.read_bytes(), file


def test_the_same_policy_gets_no_second_version(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    first = register(where, make_policy(1.0), evidence)
    assert register(where, make_policy(1.0), evidence) == first
    second = register(where, make_policy(2.0), evidence)
    assert (first.version, second.version) == (1, 2)
    assert resolve(connect(where), "challenger") == second
    assert versions(connect(where)) == [second, first]


def test_a_broken_policy_leaves_no_run(where: Places, make_policy: MakePolicy, evidence: Evidence) -> None:
    folder = make_policy(1.0)
    (folder / "items.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"items\.json was altered"):
        register(where, folder, evidence)
    client = connect(where)
    assert client.search_runs([e.experiment_id for e in client.search_experiments()]) == []


@pytest.mark.parametrize(
    ("killed_in", "runs"),
    [("create_model_version", ["FINISHED", "FINISHED"]), ("log_input", ["FINISHED", "KILLED"]),
     ("set_registered_model_alias", ["FINISHED"])],
)  # fmt: skip
def test_a_killed_registration_can_be_repeated(
    where: Places, make_policy: MakePolicy, evidence: Evidence, killed_in: str, runs: list[str]
) -> None:
    folder = make_policy(1.0)
    owner = "mlflow" if killed_in == "log_input" else "mlflow.MlflowClient"
    code = (
        "import os, mlflow; from pathlib import Path\n"
        "from recloop.registry import Evidence, register\n"
        "from recloop.settings import Places, load_params\n"
        f"{owner}.{killed_in} = lambda *_, **__: os._exit(9)\n"
        f"evidence = Evidence(load_params(Path({str(PARAMS)!r})), *map(Path, {_paths(evidence)}))\n"
        f"register(Places(home={str(where.home)!r}), Path({str(folder)!r}), evidence)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 9, done.stderr
    found = register(where, folder, evidence)
    client = connect(where)
    assert versions(client) == [found]
    assert found.version == 1
    assert resolve(client, "challenger") == found
    experiments = [e.experiment_id for e in client.search_experiments()]
    assert sorted(run.info.status for run in client.search_runs(experiments)) == runs


def _paths(evidence: Evidence) -> list[str]:
    return [str(path) for path in (evidence.reports, evidence.watermark, evidence.lock)]


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but as long as the header of one" * 9)
    with pytest.raises(RegistryError, match=r"cannot open the registry at sqlite:.*mlflow\.db"):
        connect(Places(home=tmp_path))


def test_mlflow_tells_nobody() -> None:
    """In a process of its own: MLflow decides while it is imported."""
    code = (
        "import recloop.registry; from mlflow.telemetry.client import get_telemetry_client;"
        "assert get_telemetry_client() is None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_stage_writes_what_package_reads(
    where: Places,
    make_policy: MakePolicy,
    evidence: Evidence,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    work = tmp_path / "work"
    shutil.copytree(make_policy(1.0), work / "models" / "policy")
    shutil.copytree(evidence.reports, work / "reports")
    (work / "data").mkdir()
    shutil.copy(evidence.watermark, work / "data" / "watermark.json")
    shutil.copy(PARAMS, work / "params.yaml")
    monkeypatch.chdir(work)
    monkeypatch.setenv("RECLOOP_HOME", str(where.home))
    stage.main()
    written = json.loads((work / "reports" / "registered.json").read_text())
    assert Registered(**written) == resolve(connect(where), "challenger")
    assert written == asdict(Registered(**written))
    stored = urlparse(connect(where).get_run(written["run_id"]).info.artifact_uri).path
    assert Path(stored).is_relative_to(where.home)

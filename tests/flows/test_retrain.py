"""Retrain in Prefect: one task per stage of dvc.yaml, retries, waiting, and the report."""

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from ruamel.yaml import YAML

from flows import retrain as module
from flows.graph import StageError
from flows.retrain import retrain
from tests.delivery.live import until

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  snapshot:
    cmd: echo {word} > data
    outs: [data]
  validate:
    cmd: (test ! -e bad || (echo price of i7 is negative; exit 3)) && cat data > valid
    deps: [data]
    outs: [valid]
  register:
    cmd: (test ! -e flaky || (rm flaky; echo no connection; exit 4)) && python register.py
    deps: [valid, register.py]
    outs: [reports/registered.json: {{cache: false}}]
"""
REGISTER = """
import json
from recloop.registry import connect
from recloop.settings import places

client = connect(places())
run = client.create_run(client.get_experiment_by_name("recloop").experiment_id)
if not client.search_registered_models():
    client.create_registered_model("recloop-policy")
version = client.create_model_version("recloop-policy", source="nowhere", run_id=run.info.run_id)
with open("reports/registered.json", "w") as file:
    json.dump({"run_id": run.info.run_id, "version": version.version}, file)
"""
VALUE = {"policy": {"value": 12.34, "low": 11.0, "high": 13.0}}
LOST = {
    "by": "category", "value": "[x](javascript:y)<b>", "people": 90, "difference": -1.0, "low": -2.0,
    "high": -0.5, "p": 0.001, "loses": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home whose registry is made once."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def project(tmp_path, home, monkeypatch, prefect):
    """A DVC project of three small stages with a remote, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECLOOP_HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'src'}")
    for words in (["init", "--no-scm", "-q"], ["remote", "add", "-q", "-d", "local", "remote"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], check=True)
    Path("dvc.yaml").write_text(GRAPH.format(word="one"))
    Path("register.py").write_text(REGISTER)
    Path("reports").mkdir()
    Path("reports/evaluation.json").write_text(
        json.dumps({"user_model": VALUE, "rival": "random", "slices": [LOST]})
    )
    Path("reports/evaluation.png").write_bytes(b"a plot")
    monkeypatch.setattr(module, "stage", module.stage.with_options(retry_delay_seconds=0))
    return tmp_path


def newest_run(last="report"):
    """The newest flow run, its task runs by name, and its artifacts by key.

    The server records a task a moment after it has ended: that of the name ``last`` is waited for.
    """

    def ended():
        found = {task.name.rpartition("-")[0]: task for task in client.read_task_runs(flow_run_filter=this)}
        return found if last in found and found[last].state.is_final() else {}

    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(limit=1, sort="START_TIME_DESC")
        this = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
        until(ended)
        artifacts = client.read_artifacts(flow_run_filter=this)
        return run, ended(), {a.key: a.data for a in artifacts}


def test_a_run_has_a_task_per_stage_its_progress_and_a_report(project):
    assert [run.ran for run in retrain()] == [True, True, True]
    run, tasks, artifacts = newest_run()
    assert set(tasks) == {"snapshot", "validate", "register", "version", "report"}
    assert run.state.is_completed()
    assert artifacts["retrain-progress"] == 100
    (out,) = YAML().load(Path("dvc.lock").read_text())["stages"]["snapshot"]["outs"]
    text = artifacts["retrain-report"]
    for part in (
        out["md5"],
        "| policy (user_model) | 12.34 | 11.00 to 13.00 |",
        json.loads(Path("reports/registered.json").read_text())["run_id"],
        "data:image/png;base64,YSBwbG90",
        "data_docs/index.html",
        f"[the whole report]({Path('reports/evaluation.html').resolve().as_uri()})",
        r"- **warning**: category \[x\]\(javascript:y\)\<b\> \(90 people\): -1.00 against random",
        "| snapshot | ran |",
    ):
        assert part in text
    assert any(Path("remote").rglob(out["md5"][2:])), "the data version was not pushed"
    assert [run.ran for run in retrain()] == [False, False, False]
    assert "| snapshot | unchanged |" in newest_run()[2]["retrain-report"]


def test_what_fails_once_is_tried_again(project):
    Path("flaky").touch()
    assert [run.ran for run in retrain()] == [True, True, True]
    tasks = newest_run()[1]
    assert tasks["register"].run_count == 2
    assert tasks["snapshot"].run_count == 1


def test_bad_data_is_not_tried_again_and_the_error_says_what_is_wrong(project):
    Path("bad").touch()
    with pytest.raises(StageError, match="price of i7 is negative"):
        retrain()
    run, tasks, _ = newest_run("validate")
    assert run.state.is_failed()
    assert tasks["validate"].run_count == 1
    assert "register" not in tasks


def test_of_two_flows_at_once_the_second_waits_and_has_nothing_to_do(project):
    ran: list[list[bool]] = []
    threads = [threading.Thread(target=lambda: ran.append([r.ran for r in retrain()])) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == [[False] * 3, [True] * 3]  # which thread reports first is chance

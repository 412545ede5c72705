"""The flow `monitor` tells people, notes its runs, and asks for retraining once in a cool-down."""

import json
import os
import subprocess
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import OperationalError

import flows.monitor as module
from flows.monitor import monitor
from flows.worker import register
from recloop.cli.system import _prefect, prefect_environment
from recloop.delivery import processes
from recloop.schema import now_us
from recloop.settings import places
from recloop.store import open_store
from recloop.store.snapshot import watermark
from recloop.watch import raised, silence
from recloop.watch.figures import MARK
from recloop.watch.notes import expected, flow_runs
from tests.delivery.live import PARAMS, until
from tests.watch.test_figures import BAD, OK, browse, minute

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    return open_store(places().store)


@pytest.fixture
def asked(monkeypatch):
    """The causes of each event that asks for retraining."""
    got = []
    monkeypatch.setattr(module, "emit_event", lambda event, resource, payload: got.append(payload["causes"]))
    return got


def fallen(engine):
    now = now_us()
    browse(engine, "x", 300, 0.5, start=now)
    watermark(engine).save(MARK)
    browse(engine, "loss", 300, 0.2, start=now)


def test_lost_reward_is_told_and_asks_for_retraining_once(project, prefect, asked, monkeypatch):
    assert monitor() == []
    fallen(project)
    assert [alert.name for alert in monitor()] == ["RewardLoss"]
    assert asked == [["RewardLoss"]]
    assert monitor() == []
    assert asked == [["RewardLoss"]], "within the cool-down"
    assert [alert.name for _, alert in raised(project)] == ["RewardLoss"]
    assert flow_runs(project)["monitor"].ended == 3
    hours = (ROOT / "params.yaml").read_text().replace("retrain_hours: 20 ", "retrain_hours: 1.0e-9 ")
    Path("params.yaml").write_text(hours)
    monitor()
    assert asked == [["RewardLoss"]] * 2, "it is still there when the cool-down is over"


def test_what_a_broken_slot_causes_asks_for_no_retraining(project, prefect, asked):
    fallen(project)
    minute(project, now_us() - 1_000_000, **{OK: 100, BAD: 100})
    assert monitor() == [], "it has not lasted yet"
    assert asked == []


def test_people_are_told_though_retraining_cannot_be_asked_for_and_the_other_way_round(
    project, prefect, asked, monkeypatch
):
    fallen(project)
    monkeypatch.setenv("RECLOOP_ALERT_URLS", "nonsense://x")
    with pytest.raises(module.NotifyError):
        monitor()
    assert asked == [["RewardLoss"]]
    assert flow_runs(project)["monitor"].failures == 1


def test_a_silence_of_messages_silences_no_retraining(project, prefect, asked):
    silence(project, "Reward*", now_us() + 10**10, "kim", "known")
    fallen(project)
    assert monitor() == []
    assert asked == [["RewardLoss"]]


def test_what_the_user_model_told_is_noted_by_policy(project, prefect, asked):
    Path("reports").mkdir()
    told = {"requests": 10.0, "clicks": 4.0, "purchases": 1.0}
    judged = {"policy": "p-1", "user_model": {"policy": told}}
    Path("reports/evaluation.json").write_text(json.dumps(judged))
    monitor()
    assert expected(project) == {"p-1": {"click": 0.4, "purchase": 0.1}}


def test_a_store_that_cannot_be_read_is_told_of_once(project, prefect, monkeypatch):
    sent = []
    monkeypatch.setattr(module, "send", lambda alerts, urls: sent.append(alerts[0].name))
    monkeypatch.setenv("RECLOOP_ALERT_URLS", "json://127.0.0.1:9/")

    def away(*_, **__):
        raise OperationalError("", {}, Exception("away"))

    with monkeypatch.context() as broken:
        broken.setattr(module, "check", away)
        for _ in range(2):
            with pytest.raises(OperationalError):
                monitor()
    assert sent == ["StoreUnreadable"]
    monkeypatch.delenv("RECLOOP_ALERT_URLS")
    assert [alert.name for alert in monitor()] == ["FlowFails flow=monitor"], "here it could be noted"
    assert not module._lost().exists()


@pytest.mark.slow
def test_the_automation_runs_the_retraining_deployment(project, tmp_path, monkeypatch, nothing_left):
    """`recloop up`'s server and deployments; the flow `monitor`, twice, with reward that fell."""
    fallen(project)
    where = places(prefect_port=processes.free_port())
    environment = prefect_environment(where) | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'src'}"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    api = environment["PREFECT_API_URL"]
    _prefect(where)
    try:
        monkeypatch.chdir(ROOT)
        register()
        monkeypatch.chdir(tmp_path)
        automations = httpx.post(f"{api}/automations/filter", timeout=60).json()
        assert ["retrain on drift" in one["name"] for one in automations] == [True], automations
        found = httpx.post(f"{api}/deployments/filter", json={}, timeout=60).json()
        made = {one["name"]: one for one in found}
        nightly, watching = made["nightly"], made["every-five-minutes"]
        assert watching["global_concurrency_limit"]["limit"] == 1
        assert watching["parameters"] == {"looks": 5}

        def runs():
            wanted = {"deployments": {"id": {"any_": [nightly["id"]]}}}
            found = httpx.post(f"{api}/flow_runs/filter", json=wanted, timeout=60).json()
            return [run for run in found if not run["auto_scheduled"]]

        assert runs() == []
        for _ in range(2):
            subprocess.run([sys.executable, "-m", "flows.monitor"], env=os.environ, check=True)
        until(lambda: len(runs()) >= 1)
        emit(api, "recloop.some.other")
        emit(api, "recloop.watch.retrain")  # as another cause would
        until(lambda: len(runs()) >= 2)
        assert len(runs()) == 2, "one of both looks, and one of the event"
    finally:
        processes.stop(where.home, "prefect")


def emit(api, event):
    body = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": {"prefect.resource.id": "recloop.test"},
        "payload": {},
        "id": str(uuid.uuid4()),
    }
    httpx.post(f"{api}/events", json=[body], timeout=60).raise_for_status()

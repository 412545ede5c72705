"""The whole loop, small, with real processes over HTTP: what ``make demo`` does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from recloop.delivery.processes import free_port
from recloop.registry import connect, resolve
from recloop.settings import places
from recloop.store import open_store
from recloop.store.tables import impressions

ROOT = Path(__file__).parents[1]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a demo that hangs, not one that is slow
SMALL = {
    "market": {"users": 240, "items": 40},
    "user_model": {"epochs": 6},
    "agent": {"env_steps": 8000, "users_at_once": 64},
    "evaluation": {"users": 300, "bootstrap": 100},
    "delivery": {"canary_requests": 100, "non_inferiority_margin": 0.5},
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with small parameters."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("src", "flows", "pipelines", "infra", ".dvc"):
        ignore = shutil.ignore_patterns("__pycache__", "cache", "tmp")
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in (
        "dvc.yaml",
        "bentofile.yaml",
        "requirements.lock",
        "prefect.yaml",
        ".dvcignore",
        ".bentoignore",
    ):
        shutil.copy(ROOT / name, folder / name)
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    for section, values in SMALL.items():
        params[section].update(values)
    yaml.dump(params, folder / "params.yaml")
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("RECLOOP_", "PREFECT_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return kept | {"PYTHONPATH": f"{folder}/src:{folder}", "RECLOOP_HOME": str(folder / "var"), "PATH": path}


def run(folder: Path, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def interrupted(project):
    """The demo, interrupted while it runs its first stages."""
    child = subprocess.Popen(
        [sys.executable, "-m", "flows.demo", "--requests", "300"],
        cwd=project,
        env=environment(project),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 400
    while not (project / "data/snapshot").exists() and time.monotonic() < deadline:
        assert child.poll() is None, child.communicate()[0][-3000:]
        time.sleep(0.2)
    os.killpg(child.pid, signal.SIGINT)
    said = child.communicate(timeout=200)[0]
    return child.returncode, said, left_in(project)


@pytest.fixture(scope="module")
def demo(project, interrupted):
    """The demo, once for all tests, after one that was interrupted."""
    return run(project, "-m", "flows.demo", "--requests", "300")


def left_in(folder: Path) -> list[dict]:
    """Processes that work in a folder."""
    found = [p.info for p in psutil.process_iter(["pid", "cmdline", "cwd", "status"])]
    return [p for p in found if p["cwd"] == str(folder) and p["status"] != psutil.STATUS_ZOMBIE]


def test_an_interrupted_demo_ends_and_leaves_nothing_running(interrupted):
    status, said, left = interrupted
    assert status != 0
    assert "goes on from here" in said, said[-2000:]
    assert left == []


def test_the_loop_closes(project, demo):
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    where = places(home=project / "var")
    found = json.loads((project / "var/demo.json").read_text())
    assert found["lines"][0]["stage"] == "prefect server"
    assert (project / "reports/demo.png").stat().st_size > 10_000
    with open_store(where.store).connect() as connection:
        policies = set(connection.execute(select(impressions.c.policy).distinct()).scalars())
    assert any(policy.startswith("slateq-") for policy in policies), policies
    assert resolve(connect(where), "champion") is not None
    assert {verdict["name"] for verdict in found["figures"]["verdicts"]} >= {"offline", "smoke"}


def test_nothing_is_left_running(project, demo):
    assert left_in(project) == []


def test_a_second_demo_and_a_second_repro_run_nothing(project, demo):
    again = run(project, "-m", "flows.demo", "--requests", "300")
    assert again.returncode == 0
    assert "nothing has changed" in again.stdout
    repro = run(project, "-m", "dvc", "repro")
    assert "Data and pipelines are up to date" in repro.stdout, repro.stdout[-2000:] + repro.stderr[-2000:]


def test_up_serves_what_was_learnt_and_down_stops_it(project, demo):
    """The same system to stay: Prefect with its deployments, MLflow, gateway and the champion's slot."""
    ports = {f"RECLOOP_{n}_PORT": str(free_port()) for n in ("GATEWAY", "BLUE", "GREEN", "MLFLOW", "PREFECT")}
    command = [sys.executable, "-c", "from recloop.cli import app; app()"]
    settings = {"cwd": project, "env": environment(project) | ports, "text": True}
    up = subprocess.Popen([*command, "up"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **settings)
    try:
        said = next((line for line in up.stdout if "recloop is up" in line), None)
        assert said, "recloop up ended before it was up"
        status = json.loads(
            subprocess.run([*command, "status", "--json"], capture_output=True, **settings).stdout
        )
        names = {process["name"] for process in status["processes"]}
        assert names >= {"prefect", "mlflow", "gateway", "worker", status["slot"]}
        gateway = f"http://127.0.0.1:{ports['RECLOOP_GATEWAY_PORT']}"
        slate = asked(gateway)
        for _ in range(50):  # while all else starts beside it, the slot may need longer than it is given
            if not slate["fallback"]:
                break
            slate = asked(gateway)
        assert slate["policy"] == status["champion"]
        assert slate["cold_start"]
        assert deployments(ports["RECLOOP_PREFECT_PORT"]) == {
            "nightly",
            "hourly",
            "twice-a-day",
            "every-five-minutes",
            "on-demand",
        }
        again = subprocess.run([*command, "up"], capture_output=True, **settings)
        assert again.returncode == 1
        assert "up already" in again.stderr
    finally:
        down = subprocess.run([*command, "down"], capture_output=True, **settings)
        up.wait(timeout=200)
    assert "recloop is down" in down.stdout
    assert left_in(project) == []


def asked(gateway: str) -> dict:
    return httpx.post(f"{gateway}/recommend", json={"user_id": "somebody", "k": 3}, timeout=60).json()


def deployments(port: str) -> set[str]:
    """Those with which the Prefect server answers, once the worker has made all five."""
    for _ in range(150):
        found = httpx.post(f"http://127.0.0.1:{port}/api/deployments/filter", json={}, timeout=60).json()
        if len(found) == 5:
            break
        time.sleep(0.4)
    return {deployment["name"] for deployment in found}


def test_one_changed_value_reruns_only_what_depends_on_it(project, demo):
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["evaluation"]["bootstrap"] = 120
    yaml.dump(params, project / "params.yaml")
    status = json.loads(run(project, "-m", "dvc", "status", "--json").stdout)
    assert set(status) == {"evaluate"}, status
    changes = run(project, "-m", "dvc", "metrics", "show").stdout
    assert "truth.policy.value" in changes

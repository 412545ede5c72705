"""The whole loop, small, with real processes over HTTP: what ``make demo`` does."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from ruamel.yaml import YAML
from sqlalchemy import select

from recloop.registry import connect, resolve
from recloop.settings import places
from recloop.store import open_store
from recloop.store.tables import impressions

ROOT = Path(__file__).parents[1]
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
        timeout=280,
    )


@pytest.fixture(scope="module")
def demo(project):
    """The demo, once for all tests."""
    return run(project, "-m", "flows.demo", "--requests", "300")


@pytest.mark.slow
def test_the_loop_closes(project, demo):
    assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-3000:]
    where = places(home=project / "var")
    found = json.loads((project / "var/demo.json").read_text())
    assert found["lines"][0]["stage"] == "prefect server"
    assert (project / "reports/demo.png").stat().st_size > 10_000
    with open_store(where.store).connect() as connection:
        policies = set(connection.execute(select(impressions.c.policy).distinct()).scalars())
    assert any(policy.startswith("dqn-") for policy in policies), policies
    assert resolve(connect(where), "champion") is not None
    assert {verdict["name"] for verdict in found["figures"]["verdicts"]} >= {"offline", "smoke"}


@pytest.mark.slow
def test_nothing_is_left_running(project, demo):
    left = [p.info for p in psutil.process_iter(["cmdline", "cwd"]) if p.info["cwd"] == str(project)]
    assert left == []


@pytest.mark.slow
def test_a_second_demo_and_a_second_repro_run_nothing(project, demo):
    again = run(project, "-m", "flows.demo", "--requests", "300")
    assert again.returncode == 0
    assert "nothing has changed" in again.stdout
    repro = run(project, "-m", "dvc", "repro")
    assert "Data and pipelines are up to date" in repro.stdout, repro.stdout[-2000:] + repro.stderr[-2000:]


@pytest.mark.slow
def test_one_changed_value_reruns_only_what_depends_on_it(project, demo):
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["evaluation"]["bootstrap"] = 120
    yaml.dump(params, project / "params.yaml")
    status = json.loads(run(project, "-m", "dvc", "status", "--json").stdout)
    assert set(status) == {"evaluate"}, status
    changes = run(project, "-m", "dvc", "metrics", "show").stdout
    assert "truth.policy.value" in changes

"""What a slot needs, installed for real into an environment of its own: small, light, and enough."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recloop.serving.build import Built, bento_folder
from tests.serving.conftest import PROJECT

pytestmark = pytest.mark.slow
LIMIT = 250  # MB, without bytecode, which Python writes on first import
HEAVY = ("ray", "mlflow", "torch", "pyarrow", "pandas", "polars", "duckdb", "prefect", "scipy")
UV = Path(sys.executable).parent / "uv"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``infra/slot-requirements.txt`` in a fresh virtual environment; skips where packages cannot be had."""
    uv = str(UV) if UV.exists() else shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("slot") / "env"
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, folder], check=True)
    wanted = [uv, "pip", "install", "-q", "--python", folder / "bin/python", "--link-mode", "copy", "-r"]
    done = subprocess.run([*wanted, PROJECT / "infra/slot-requirements.txt"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"the packages cannot be installed here: {done.stderr[-300:]}")
    return folder


def megabytes(place: Path) -> float:
    files = [place] if place.is_file() else place.rglob("*")
    return sum(file.lstat().st_size for file in files if file.is_file()) / 1e6


def test_it_is_small_and_has_nothing_heavy(environment: Path, capsys: pytest.CaptureFixture) -> None:
    (packages,) = environment.glob("lib/python*/site-packages")
    sizes = {place.name: megabytes(place) for place in packages.iterdir()}
    biggest = sorted(sizes, key=sizes.__getitem__)[:-9:-1]
    with capsys.disabled():
        told = ", ".join(f"{name} {sizes[name]:.0f}" for name in biggest)
        print(f"\na slot's environment: {megabytes(environment):.0f} MB; the largest: {told}")
    assert not set(HEAVY) & set(sizes)
    assert megabytes(environment) <= LIMIT


def test_a_bento_s_code_runs_in_it(environment: Path, built: Built, home: Path) -> None:
    code = (
        "import infra.slot; from starlette.testclient import TestClient\n"
        "from recloop.serving.service import deferred\n"
        "answer = TestClient(deferred.app).post('/recommend', json={'user_id': 'p'})\n"
        "assert answer.status_code == 200, answer.text; print(answer.json()['policy'])"
    )
    here = {name: x for name, x in os.environ.items() if name not in ("PYTHONPATH", "RECLOOP_STORE_URL")}
    done = subprocess.run(
        [environment / "bin/python", "-c", code],
        cwd=bento_folder(built.tag, home) / "src",
        env=here | {"RECLOOP_SLOT_HOST": "127.0.0.1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == built.policy

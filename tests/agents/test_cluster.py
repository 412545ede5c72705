"""A Ray cluster of someone else's: training attaches to it by RAY_ADDRESS, and leaves it running."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile

import psutil
import pytest

from recloop import policy
from recloop.delivery.processes import free_port
from tests.agents.worlds import params, world

SCRIPT = """
import sys
from pathlib import Path
import ray
from recloop.agents import train
from recloop.agents.runner import MarketRunner
from recloop.settings.params import Params

root, real = Path(sys.argv[1]), MarketRunner.make_env

def noted(self):
    (root / f"runner-{self.worker_index}").write_text(ray.get_runtime_context().gcs_address)
    real(self)

MarketRunner.make_env = noted
train(Params.model_validate_json((root / "params.json").read_text()), root / "features", root / "user_model",
      root / "policy", root / "reports", root / "checkpoints")
assert not ray.is_initialized()
"""
LOOK = "import ray; ray.init(log_to_driver=False); print(len([n for n in ray.nodes() if n['Alive']]))"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_training_attaches_to_a_running_cluster_and_leaves_it_alive(tmp_path):
    world(tmp_path)
    (tmp_path / "params.json").write_text(params(env_steps=4096, num_env_runners=2).model_dump_json())
    port = free_port()
    token = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    environment = os.environ | token
    folder = tempfile.mkdtemp(prefix="ray-")  # the path of a socket must be short
    head = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port", str(port),
            "--node-ip-address", "127.0.0.1", "--num-cpus", "4", "--include-dashboard", "false",
            "--object-store-memory", str(100 * 1024**2), "--temp-dir", folder,
        ],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    inside = environment | {"RAY_ADDRESS": f"127.0.0.1:{port}"}

    def python(script: str, *words: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [sys.executable, "-c", script, *words], env=inside, capture_output=True, text=True, timeout=600
        )

    try:
        while "runtime started" not in head.stdout.readline():
            assert head.poll() is None
        assert python(LOOK).stdout.strip() == "1"
        done = python(SCRIPT, str(tmp_path))
        assert done.returncode == 0, done.stdout + done.stderr
        policy.load(tmp_path / "policy")
        for worker in (1, 2):
            assert (tmp_path / f"runner-{worker}").read_text().endswith(f":{port}")
        assert head.poll() is None
        assert python(LOOK).stdout.strip() == "1"
    finally:
        family = psutil.Process(head.pid).children(recursive=True)
        head.terminate()
        head.wait(timeout=100)
        _, left = psutil.wait_procs(family, timeout=20)
        for process in left:
            process.kill()
        shutil.rmtree(folder, ignore_errors=True)

"""Building a Bento of a policy, and the command that serves it."""

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from recloop.policy import load


class BuildError(RuntimeError):
    """The Bento could not be built; the message holds BentoML's last words."""


@dataclass(frozen=True)
class Built:
    """A Bento in the store under home.

    Attributes:
        tag: ``name:version``; the version is the policy's and the code's hash.
        policy: name of the policy, as it stands in impressions.
        policy_sha256: the policy's digest.
    """

    tag: str
    policy: str
    policy_sha256: str


def bento_home(home: Path) -> Path:
    """Where Bentos are stored."""
    return home.resolve() / "bentoml"


def build_bento(project: Path, policy: Path, home: Path) -> Built:
    """Build ``project/bentofile.yaml`` with the policy in ``policy``; a Bento of the same parts is kept.

    Raises:
        ArtefactError: the policy is not sound.
        BuildError: BentoML refused.
    """
    manifest = load(policy).manifest
    version = _version(project, manifest.digest)
    built = Built(f"recloop_slot:{version}", manifest.name, manifest.digest)
    store = bento_home(home)
    if (store / "bentos" / "recloop_slot" / version / "bento.yaml").exists():
        return built
    store.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-m", "bentoml", "build", "--version", version, str(project)],
        env=_environment(store),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BuildError(f"bentoml build failed:\n{(done.stdout + done.stderr)[-2000:]}")
    return built


def serve_command(
    tag: str, home: Path, slot_home: Path, host: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """What starts a slot: arguments and environment, to which the caller adds RECLOOP_STORE_URL.

    Each slot has a BENTOML_HOME of its own, since every start wipes the metrics in it; Bentos are
    found through a link.
    """
    store = bento_home(home)
    slot_home.mkdir(parents=True, exist_ok=True)
    for name in ("bentos", "models"):
        (store / name).mkdir(parents=True, exist_ok=True)
        link = slot_home / name
        if not link.is_symlink():
            link.symlink_to(store / name)
    command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", host, "--port", str(port)]
    return command, _environment(slot_home)


def _environment(home: Path) -> dict[str, str]:
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    return dict(os.environ) | quiet


def _version(project: Path, digest: str) -> str:
    """Hash of the policy and of every file that goes into the Bento."""
    rooms = ("schema", "settings", "store", "features", "policy", "serving")
    files = [file for room in rooms for file in (project / "src" / "recloop" / room).rglob("*.py")]
    files += [
        project / "bentofile.yaml",
        project / "infra" / "slot.py",
        project / "infra/slot-requirements.txt",
    ]
    content = hashlib.sha256(digest.encode())
    for file in sorted(files):
        content.update(file.read_bytes())
    return content.hexdigest()[:16]

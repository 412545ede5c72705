"""Building a Bento of a policy, and the command that serves it."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from recloop.policy import ArtefactError, load

NAME = "recloop_slot"
PARTS = ("bentofile.yaml", "infra/slot.py", "infra/slot-requirements.txt", "src/recloop/__init__.py")
ROOMS = ("schema", "settings", "store", "features", "policy", "serving")


class BuildError(RuntimeError):
    """The Bento could not be built; the message holds BentoML's last words."""


@dataclass(frozen=True)
class Built:
    """A Bento in the store under home.

    Attributes:
        tag: ``name:version``; the version is the hash of all that went in.
        policy: name of the policy, as it stands in impressions.
        policy_sha256: the policy's digest.
    """

    tag: str
    policy: str
    policy_sha256: str


def bento_home(home: Path) -> Path:
    """Where Bentos are stored."""
    return home.resolve() / "bentoml"


def build_bento(project: Path, policy: Path, home: Path, labels: Mapping[str, object]) -> Built:
    """Build ``project/bentofile.yaml`` with the policy in ``policy``; a Bento of the same parts is kept.

    ``labels`` stand in the Bento's description, such as the registry's version and run. The Bento
    appears whole or not at all.

    Raises:
        ArtefactError: the policy is not sound.
        BuildError: a part is missing, or BentoML refused.
    """
    manifest = load(policy).manifest
    store = bento_home(home)
    store.mkdir(parents=True, exist_ok=True)
    # BentoML reads no context whose path has a hidden folder, which that of home may have.
    with (
        tempfile.TemporaryDirectory(prefix="recloop-") as context_name,
        tempfile.TemporaryDirectory(prefix="building-", dir=store) as work,
    ):
        context = Path(context_name).resolve()
        version = _gather(project, policy, context, [f"{key}={value}" for key, value in labels.items()])
        built = Built(f"{NAME}:{version}", manifest.name, manifest.digest)
        target = store / "bentos" / NAME / version
        if is_sound(target, manifest.digest):
            return built
        command = [sys.executable, "-m", "bentoml", "build", "--version", version]
        for key, value in labels.items():
            command += ["--label", f"{key}={value}"]
        done = subprocess.run(
            [*command, "."],
            cwd=context,
            env=_environment(Path(work)),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BuildError(f"bentoml build failed:\n{(done.stdout + done.stderr)[-2000:]}")
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        (Path(work) / "bentos" / NAME / version).rename(target)
        (target.parent / "latest").write_text(version)
    return built


def _gather(project: Path, policy: Path, context: Path, labels: list[str]) -> str:
    """Copy what goes into the Bento; returns the hash of it all."""
    ignored = shutil.ignore_patterns("__pycache__")
    try:
        for part in PARTS:
            (context / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(project / part, context / part)
        for room in ROOMS:
            place = Path("src", "recloop", room)
            shutil.copytree(project / place, context / place, ignore=ignored)
    except (OSError, shutil.Error) as error:
        raise BuildError(
            f"{project} lacks a part of the Bento: {error}. Build from a whole checkout"
        ) from error
    shutil.copytree(policy, context / "models" / "policy")
    content = hashlib.sha256("\n".join(labels).encode())
    for file in sorted(path for path in context.rglob("*") if path.is_file()):
        content.update(f"{file.relative_to(context)}\n{file.stat().st_size}\n".encode() + file.read_bytes())
    return content.hexdigest()[:16]


def bento_folder(tag: str, home: Path) -> Path:
    """Where the Bento of a tag is, or would be.

    Raises:
        BuildError: that is no tag that ``build_bento`` gives, such as one that leads out of the store.
    """
    if not re.fullmatch(f"{NAME}:[0-9a-z]{{1,64}}", tag):
        raise BuildError(f"{tag!r} is no tag of a Bento that was built here: `recloop` builds {NAME}:<hash>")
    return bento_home(home) / "bentos" / NAME / tag.partition(":")[2]


def is_sound(bento: Path, digest: str) -> bool:
    """Whether a Bento is there, with the policy that it should hold; never through a link."""
    try:
        if any(path.is_symlink() for path in (bento, *bento.rglob("*"))):
            return False
        return (bento / "bento.yaml").exists() and load(bento / "src/models/policy").manifest.digest == digest
    except ArtefactError:
        return False


def serve_command(
    tag: str, home: Path, slot_home: Path, host: str, port: int
) -> tuple[list[str], dict[str, str]]:
    """What starts a slot: arguments and environment, to which the caller adds RECLOOP_STORE_URL.

    Each slot has a BENTOML_HOME of its own, since every start wipes the metrics in it; Bentos are
    found through a link. numpy keeps to one thread for each request, as ONNX Runtime does: those of several
    requests would wait for each other.

    Raises:
        BuildError: the tag is not one of ours.
    """
    bento_folder(tag, home)
    store = bento_home(home)
    slot_home.mkdir(parents=True, exist_ok=True)
    for name in ("bentos", "models"):
        (store / name).mkdir(parents=True, exist_ok=True)
        link = slot_home / name
        if link.is_symlink() and link.readlink() != store / name:  # home was moved
            link.unlink()
        if not link.is_symlink():
            link.symlink_to(store / name)
    command = [sys.executable, "-m", "bentoml", "serve", tag, "--host", host, "--port", str(port)]
    return command, _environment(slot_home) | {"OPENBLAS_NUM_THREADS": "1", "RECLOOP_SLOT_HOST": host}


def _environment(home: Path) -> dict[str, str]:
    quiet = {"BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(home), "PYTHONWARNINGS": "ignore"}
    return dict(os.environ) | quiet | {"RECLOOP_SLOT_HOST": "127.0.0.1"}

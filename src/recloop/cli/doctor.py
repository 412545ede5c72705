"""Is everything as it must be? What is wrong, and what to do."""

import importlib.metadata
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import typer
from packaging.requirements import Requirement

from recloop.cli.show import AsJson, as_json, as_table
from recloop.delivery.processes import running
from recloop.settings import ParamsError, Places, load_params, places
from recloop.settings.tokens import LOOPBACK
from recloop.store import StoreError, open_store
from recloop.watch.sending import NotifyError, require

GB = 1024**3
NEEDED_DISK, NEEDED_MEMORY = 3 * GB, 4 * GB


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; ``do`` says what to do where it is not well."""

    what: str
    well: bool
    found: str
    do: str = ""


def doctor(json_: AsJson = False) -> None:
    """Look at versions, ports, disk, memory, GPU, store and keys; exit status 1 if something is wrong."""
    where = places()
    looks: list[Callable[[Places], Finding]] = [_python, _versions, _params, _disk, _memory, _gpu, _store]
    findings = [look(where) for look in (*looks, _keys, _alerts)] + _ports(where)
    if json_:
        as_json([asdict(finding) for finding in findings])
    else:
        rows = [asdict(f) | {"": "ok" if f.well else "WRONG"} for f in findings]
        as_table(rows, ["", "what", "found", "do"])
    if not all(finding.well for finding in findings):
        raise typer.Exit(1)


def _python(_: Places) -> Finding:
    found = sys.version.split()[0]
    return Finding("python", sys.version_info[:2] == (3, 11), found, "use Python 3.11: `make PYTHON=...`")


def _versions(_: Places) -> Finding:
    lock = Path("requirements.lock")
    if not lock.exists():
        return Finding("versions", False, "no requirements.lock here", "run from the project's root")
    wrong = []
    for line in lock.read_text().splitlines():
        if line and line[0].isalnum():
            wanted = Requirement(line.split(" #")[0])
            if wanted.marker is None or wanted.marker.evaluate():
                have = _installed(wanted.name)
                if have is None or not wanted.specifier.contains(have.split("+")[0], prereleases=True):
                    wrong.append(f"{wanted} (have {have or 'none'})")
    if not wrong:
        return Finding("versions", True, "as locked")
    return Finding("versions", False, ", ".join(wrong[:5]), "run `make .venv/installed --always-make`")


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _params(_: Places) -> Finding:
    try:
        load_params()
    except ParamsError as error:
        return Finding("params.yaml", False, str(error), "correct the entry")
    return Finding("params.yaml", True, "valid")


def _disk(where: Places) -> Finding:
    free = shutil.disk_usage(where.home).free
    do = f"free some space, or set RECLOOP_HOME to another disk ({NEEDED_DISK // GB} GB are needed)"
    return Finding("disk", free >= NEEDED_DISK, f"{free / GB:.1f} GB free at {where.home}", do)


def _memory(_: Places) -> Finding:
    free = psutil.virtual_memory().available
    do = f"stop other programs ({NEEDED_MEMORY // GB} GB are needed)"
    return Finding("memory", free >= NEEDED_MEMORY, f"{free / GB:.1f} GB available", do)


def _gpu(_: Places) -> Finding:
    if shutil.which("nvidia-smi") is None:
        return Finding("gpu", True, "none; training uses the CPU")
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    names = ", ".join(done.stdout.strip().splitlines())
    return Finding(
        "gpu", done.returncode == 0, names or done.stderr.strip()[:100], "check the driver: nvidia-smi"
    )


def _store(where: Places) -> Finding:
    try:
        engine = open_store(where.store)
    except StoreError as error:
        return Finding(
            "store", False, str(error), "see the message; a backup of the file goes back in its place"
        )
    with engine.connect() as connection:
        kind = connection.dialect.name
    return Finding("store", os.access(where.home, os.W_OK), f"{kind} opens", "make RECLOOP_HOME writable")


def _keys(where: Places) -> Finding:
    file = where.keys
    if not file.exists():
        return Finding("master keys", True, "no file: made when something is sealed")
    alone = not file.stat().st_mode & 0o077
    found = "nobody else can read them" if alone else f"others on this machine can read {file}"
    return Finding("master keys", alone, found, f"chmod 600 {file}; then `recloop key rotate`")


def _alerts(_: Places) -> Finding:
    urls = os.environ.get("RECLOOP_ALERT_URLS", "").split()
    try:
        require(urls)
    except NotifyError as error:
        return Finding("alerts", False, str(error), "correct RECLOOP_ALERT_URLS: docs/watch.md has examples")
    told = f"sent to {len(urls)} addresses" if urls else "shown only: RECLOOP_ALERT_URLS is empty"
    return Finding("alerts", True, told)


def _ports(where: Places) -> list[Finding]:
    ours = {process.port: process.name for process in running(where.home)}
    findings = []
    for name in ("gateway", "blue", "green", "mlflow", "prefect"):
        port = getattr(where, f"{name}_port")
        what = f"port {port} ({name})"
        if port in ours:
            findings.append(Finding(what, True, f"ours: {ours[port]}"))
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((where.host if name == "gateway" else LOOPBACK[0], port))
                findings.append(Finding(what, True, "free"))
            except OSError as error:
                do = f"stop the program that uses it, or set RECLOOP_{name.upper()}_PORT to another port"
                findings.append(Finding(what, False, error.strerror or str(error), do))
    return findings

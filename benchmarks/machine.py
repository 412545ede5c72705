"""Where and on what a benchmark was measured."""

import json
import math
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

RECORD = "machine.json"
PACKAGES = (
    "numpy", "torch", "ray", "scipy", "polars", "pyarrow", "duckdb", "usearch", "faiss-cpu", "onnxruntime",
    "bentoml", "gymnasium", "stable-baselines3", "scikit-learn",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """This machine and its versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def rest(share: float = 0.1, seconds: float = 30.0) -> None:
    """Wait, ``seconds`` at most, until all cores have been busy for less than ``share`` of a second."""
    for _ in range(math.ceil(seconds)):
        if psutil.cpu_percent(1.0) < 100 * share:
            return


def circumstances(quick: bool) -> dict[str, Any]:
    """Of one run, now: commit (``+`` where files differ from it), date (UTC), whether it was quick, and the
    load: mean number of processes that ran or wanted to in the last 5 minutes."""
    commit = _git("rev-parse", "--short=10", "HEAD") or "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no")
    today = datetime.now(UTC).date().isoformat()
    return {
        "commit": commit + "+" * bool(changed),
        "date": today,
        "quick": quick,
        "load": round(os.getloadavg()[1], 1),
    }


def read_record(folder: Path) -> dict[str, Any]:
    """``machine``, None where nothing was noted, and ``runs``: circumstances by benchmark."""
    path = folder / RECORD
    return json.loads(path.read_text()) if path.exists() else {"machine": None, "runs": {}}


def note(folder: Path, name: str, quick: bool) -> None:
    """Remember that ``name`` was measured here and now."""
    runs = read_record(folder)["runs"] | {name: circumstances(quick)}
    (folder / RECORD).write_text(json.dumps({"machine": machine(), "runs": runs}, indent=1) + "\n")


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor() or "unknown"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git(*words: str) -> str | None:
    done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent)
    return done.stdout.strip() if done.returncode == 0 else None

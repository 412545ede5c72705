"""The offline graph, read from dvc.yaml, and one stage of it run under a lock.

``python -m flows.graph STAGE`` runs one stage in the current project; the flow starts that as a
process of its own, so that a stage can be killed and its memory is given back.
"""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import networkx
import psutil
from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from recloop.settings.workspace import workspace

TAIL = 25
WAIT_SECONDS = 1.0  # between attempts while a plain `dvc` command holds DVC's own lock
T = TypeVar("T")


class StageError(RuntimeError):
    """A stage failed; the message holds its last lines."""


@dataclass(frozen=True)
class StageRun:
    """What became of a stage.

    Attributes:
        name: the stage.
        ran: False where nothing it depends on had changed.
        began: on the monotonic clock.
        seconds: wall time.
    """

    name: str
    ran: bool
    began: float
    seconds: float


def patiently(work: Callable[[], T]) -> T:
    """Do what needs DVC's lock; while a plain ``dvc`` command of somebody's holds it, try again."""
    while True:
        try:
            return work()
        except DvcException as error:
            if not isinstance(error, LockError) and not isinstance(error.__cause__, LockError):
                raise
            time.sleep(WAIT_SECONDS)


def stages() -> list[str]:
    """Names of dvc.yaml's stages, each after those that it depends on."""
    with Repo(".") as repo:
        graph = repo.index.graph  # edges point from a stage to what it needs
        order = networkx.lexicographical_topological_sort(graph.reverse(), key=lambda stage: stage.addressing)
        return [stage.name for stage in order]


def run_stage(name: str, say: Callable[[str], None]) -> StageRun:
    """Run one stage if something it depends on has changed; waits for other runs to leave the lock.

    ``say`` gets each line that the stage prints, progress bars aside; they go to the terminal.

    Raises:
        StageError: the stage failed.
    """
    start = time.monotonic()
    with workspace(say):
        ran = patiently(lambda: _changed(name))
        if ran:
            _run(name, say)
    return StageRun(name, ran, start, time.monotonic() - start)


def _run(name: str, say: Callable[[str], None]) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    child = subprocess.Popen(
        [sys.executable, "-m", "flows.graph", name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"},
        start_new_session=True,  # one group, so that what is being forked just then is ended too
    )
    try:
        tail = _follow(child, say)
        status = child.wait()
    except BaseException:  # interrupted: the stage must not go on without us
        _end(child)
        raise
    if status:
        raise StageError(_explain(name, status, "\n".join(tail)))


def _end(child: subprocess.Popen) -> None:
    family = []
    with suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(child.pid).children(recursive=True), psutil.Process(child.pid)]
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, sign)
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(sign)
        _, family = psutil.wait_procs(family, timeout=5)
    child.wait()


def _explain(name: str, status: int, tail: str) -> str:
    text = f"stage {name} failed (exit {status}). Its last lines:\n{tail}"
    if "No space left" in tail or "disk is full" in tail:
        text += "\nThe disk is full: free some space, or set RECLOOP_HOME to another disk; then run it again."
    elif status < 0:
        text += f"\nIt was killed by signal {-status}; run it again: it goes on from what is there."
    return text


def _changed(name: str) -> bool:
    with Repo(".") as repo, repo.lock:
        (stage,) = repo.stage.collect(name)
        return stage.changed()


def _follow(child: subprocess.Popen, say: Callable[[str], None]) -> list[str]:
    assert child.stdout is not None
    tail: deque[str] = deque(maxlen=TAIL)
    line = b""
    while part := child.stdout.read1(4096):  # type: ignore[attr-defined]
        sys.stderr.buffer.write(part)
        sys.stderr.buffer.flush()
        *whole, line = (line + part).split(b"\n")
        for text in (one.split(b"\r")[-1].decode(errors="replace").rstrip() for one in whole):
            if text:
                tail.append(text)
                say(text)
    return [*tail, line.decode(errors="replace")]


def main(name: str) -> None:
    """Run one stage, whatever the state of the others."""

    def reproduce() -> None:
        with Repo(".") as repo:
            repo.scm_context.quiet = True  # no advice on `git add` after every stage
            repo.reproduce([name], single_item=True)

    try:
        patiently(reproduce)
    except DvcException as error:
        sys.exit(f"{error.__cause__ or error}")


if __name__ == "__main__":
    main(sys.argv[1])

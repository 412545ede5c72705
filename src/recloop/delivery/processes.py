"""Processes that stay: started with a log and a note on disk, found again, and stopped as a group."""

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

NAMED = range(20_000, 32_000)  # ports below those that systems give to who names none
UNTRIED = iter(random.SystemRandom().sample(NAMED, len(NAMED)))  # so that none is given twice here


class ProcessError(RuntimeError):
    """A process could not be started or did not become ready; the message says what to do."""


@dataclass(frozen=True)
class Process:
    """A process that was started here.

    Attributes:
        name: what it is.
        pid: also the id of its process group.
        started: its start time as the system has it, so that a reused pid is not taken for it.
        port: where it listens; 0 for none.
        log: what it prints.
    """

    name: str
    pid: int
    started: float
    port: int
    log: str

    @property
    def alive(self) -> bool:
        """Whether this very process runs."""
        try:
            found = psutil.Process(self.pid)
            return found.status() != psutil.STATUS_ZOMBIE and abs(found.create_time() - self.started) < 1
        except psutil.NoSuchProcess:
            return False


def _notes(home: Path) -> Path:
    folder = home / "run"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def running(home: Path) -> list[Process]:
    """All that were started under this home and run."""
    found = [Process(**json.loads(file.read_text())) for file in sorted(_notes(home).glob("*.json"))]
    return [process for process in found if process.alive]


def find(home: Path, name: str) -> Process | None:
    """The running process of that name, or None."""
    return next((process for process in running(home) if process.name == name), None)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody uses now, and another one at each call.

    Raises:
        ProcessError: there is none left.
    """
    for port in UNTRIED:
        with socket.socket() as probe, suppress(OSError):
            probe.bind((host, port))
            return port
    raise ProcessError(f"no port from {NAMED[0]} to {NAMED[-1]} is free: stop what uses them")


def start(
    home: Path, name: str, command: Sequence[str], environment: dict[str, str], host: str = "", port: int = 0
) -> Process:
    """Start a process in a group of its own; output goes to ``home/logs/<name>.log``.

    Raises:
        ProcessError: it runs already, or somebody else uses the port.
    """
    if found := find(home, name):
        raise ProcessError(f"{name} runs already (pid {found.pid}): stop it first, with `recloop down`")
    if port:
        _claim(host, port, name)
    log = home / "logs" / f"{name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        child = subprocess.Popen(
            list(command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    process = Process(name, child.pid, psutil.Process(child.pid).create_time(), port, str(log))
    note = _notes(home) / f"{name}.json"
    note.with_suffix(".new").write_text(json.dumps(asdict(process)))
    note.with_suffix(".new").rename(note)
    return process


def note_own(home: Path, name: str) -> Process:
    """Leave a note of the calling process itself, so that others find it."""
    process = Process(name, os.getpid(), psutil.Process().create_time(), 0, "")
    (_notes(home) / f"{name}.json").write_text(json.dumps(asdict(process)))
    return process


def forget(home: Path, process: Process) -> None:
    """Take the note away."""
    (_notes(home) / f"{process.name}.json").unlink(missing_ok=True)


def _claim(host: str, port: int, name: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ProcessError(
                f"{name} cannot listen on {host}:{port}: {error.strerror}. Stop the program that uses the"
                f" port, or choose another with RECLOOP_{name.upper()}_PORT"
            ) from error


def wait_ready(process: Process, url: str, seconds: float) -> float:
    """Wait until the URL answers 200; returns the seconds it took.

    Raises:
        ProcessError: it ended, or the time is over; the message holds its last lines.
    """
    start_time = time.monotonic()
    while time.monotonic() - start_time < seconds:
        if not process.alive:
            raise ProcessError(f"{process.name} ended before it was ready:\n{last_lines(process)}")
        try:
            with urllib.request.urlopen(url, timeout=1) as answer:
                if answer.status == 200:
                    return time.monotonic() - start_time
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise ProcessError(f"{process.name} was not ready after {seconds:.0f} s:\n{last_lines(process)}")


def last_lines(process: Process, count: int = 15) -> str:
    """The end of its log."""
    return "\n".join(Path(process.log).read_text(errors="replace").splitlines()[-count:])


def stop(home: Path, name: str, seconds: float = 8) -> bool:
    """End a process and all that it started, also where it died before them; False where nothing ran."""
    note = _notes(home) / f"{name}.json"
    try:
        process = Process(**json.loads(note.read_text()))
    except FileNotFoundError:
        return False
    family = _family(process)
    for one in family:
        _send(one, signal.SIGTERM)
    _, left = psutil.wait_procs(family, timeout=seconds)
    left += [one for one in _family(process) if one not in left]
    for one in left:
        _send(one, signal.SIGKILL)
    psutil.wait_procs(left, timeout=2)
    note.unlink(missing_ok=True)
    return bool(family)


def _family(process: Process) -> list[psutil.Process]:
    """Who lives of its group and its descendants; nobody when another process has its pid by now.

    While one member lives the system gives the group's id to nobody else.
    """
    family = {}
    if process.alive:
        family = {one.pid: one for one in psutil.Process(process.pid).children(recursive=True)}
    elif _lives(process.pid):
        return []
    for one in psutil.process_iter(["status"]):
        try:
            in_group = os.getpgid(one.pid) == process.pid
        except ProcessLookupError:
            continue
        if in_group and one.info["status"] != psutil.STATUS_ZOMBIE:
            family[one.pid] = one
    return list(family.values())


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _send(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)

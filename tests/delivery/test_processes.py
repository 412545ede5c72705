"""Processes are found again, never mistaken for another's, and leave nothing behind."""

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest

from recloop.delivery import processes
from recloop.delivery.processes import ProcessError
from tests.delivery.live import until

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def family(home):
    process = processes.start(home, "family", [sys.executable, "-c", PARENT], dict(os.environ))
    until(lambda: processes.last_lines(process))
    return process, int(processes.last_lines(process))


@pytest.mark.parametrize("leader_dies_first", [False, True])
def test_stop_ends_the_children_too(tmp_path, leader_dies_first):
    process, child = family(tmp_path)
    if leader_dies_first:
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: not process.alive)
    processes.stop(tmp_path, "family")
    assert gone(process.pid)
    assert gone(child)
    assert processes.running(tmp_path) == []


def test_a_reused_pid_is_not_ours(tmp_path):
    bystander = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
    )
    try:
        note = {"name": "x", "pid": bystander.pid, "started": 1.0, "port": 0, "log": ""}
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "x.json").write_text(json.dumps(note))
        assert processes.find(tmp_path, "x") is None
        assert not processes.stop(tmp_path, "x")
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_taken_port_is_named_with_what_to_do(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ProcessError, match=rf"{port}.*RECLOOP_GREEN_PORT"):
            processes.start(tmp_path, "green", [sys.executable], dict(os.environ), "127.0.0.1", port)
    assert processes.running(tmp_path) == []


def test_a_process_that_ends_at_once_says_its_last_words(tmp_path):
    process = processes.start(
        tmp_path, "x", [sys.executable, "-c", "print('no such policy', flush=True); 1 / 0"], {}
    )
    with pytest.raises(ProcessError, match=r"(?s)no such policy.*ZeroDivisionError"):
        processes.wait_ready(process, "http://127.0.0.1:9/", 20)


def test_the_same_name_is_not_started_twice(tmp_path):
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    process = processes.start(tmp_path, "x", command, dict(os.environ))
    with pytest.raises(ProcessError, match="runs already"):
        processes.start(tmp_path, "x", command, dict(os.environ))
    assert processes.stop(tmp_path, "x")
    assert gone(process.pid)

"""The flow's graph is dvc.yaml's: order, skipping, waiting for each other, and clear failures."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from dvc.repo import Repo

from flows.graph import StageError, run_stage, stages
from recloop.settings.workspace import workspace

ROOT = Path(__file__).parents[2]
GRAPH = """
stages:
  last:
    cmd: cat middle > last && echo made last
    deps: [middle]
    outs: [last]
  middle:
    cmd: cat first > middle
    deps: [first]
    outs: [middle]
  first:
    cmd: echo {word} > first
    outs: [first]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A DVC project of three small stages, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    Path("dvc.yaml").write_text(GRAPH.format(word="one"))
    return tmp_path


def silent(_: str) -> None:
    return


def test_stages_come_after_what_they_need(project):
    assert stages() == ["first", "middle", "last"]


def test_a_second_run_runs_nothing_and_a_change_only_what_depends_on_it(project):
    assert [run_stage(name, silent).ran for name in stages()] == [True, True, True]
    assert [run_stage(name, silent).ran for name in stages()] == [False, False, False]
    Path("middle").write_text("spoilt")
    assert [run_stage(name, silent).ran for name in stages()] == [False, True, False]


def test_what_a_stage_says_is_heard(project):
    heard: list[str] = []
    for name in stages():
        run_stage(name, heard.append)
    assert "made last" in heard


def test_two_runs_at_once_wait_for_each_other(project):
    Path("dvc.yaml").write_text(GRAPH.format(word="one").replace("cat first", "sleep 1 && cat first"))
    ran: list[bool] = []

    def run() -> None:
        for name in stages():
            ran.append(run_stage(name, silent).ran)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ran) == [False] * 3 + [True] * 3, "each stage ran once, and nobody failed"


def test_the_workspace_may_be_taken_again_by_who_has_it(project):
    with workspace(), workspace():
        assert run_stage("first", silent).ran


def test_a_plain_dvc_command_that_holds_dvc_s_own_lock_is_waited_for(project):
    """DVC itself gives up after three seconds."""
    ran: list[bool] = []
    with Repo(".") as repo, repo.lock:
        thread = threading.Thread(target=lambda: ran.append(run_stage("first", silent).ran))
        thread.start()
        time.sleep(4)
        assert ran == []
    thread.join()
    assert ran == [True]


def test_an_interrupted_stage_does_not_go_on(project):
    seconds = f"{61 + os.getpid() / 1e8:.8f}"  # of nobody else
    Path("dvc.yaml").write_text(f"stages:\n  slow:\n    cmd: echo begun && sleep {seconds}\n")

    def interrupt(line: str) -> None:
        if line == "begun":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_stage("slow", interrupt)
    going_on = [p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == ["sleep", seconds]]
    assert not psutil.wait_procs(going_on, timeout=30)[1]


def test_a_failing_stage_says_what_its_command_said(project):
    Path("dvc.yaml").write_text("stages:\n  bad:\n    cmd: echo the disk is full >&2; exit 3\n")
    with pytest.raises(StageError, match="the disk is full"):
        run_stage("bad", silent)


def test_a_full_disk_says_what_to_do(project):
    """/dev/full refuses every write as a full disk does."""
    Path("dvc.yaml").write_text("stages:\n  full:\n    cmd: head -c 1 /dev/zero > /dev/full\n")
    with pytest.raises(StageError, match="free some space"):
        run_stage("full", silent)


def test_a_killed_stage_is_named_and_the_next_run_does_it(project):
    Path("dvc.yaml").write_text(
        GRAPH.format(word="one").replace("cat first", "test -e again || kill -9 $$; cat first")
    )
    assert run_stage("first", silent).ran
    with pytest.raises(StageError, match="middle failed"):
        run_stage("middle", silent)
    Path("again").touch()
    assert [run_stage(name, silent).ran for name in stages()] == [False, True, True]


def test_the_project_s_own_graph_is_read(monkeypatch):
    monkeypatch.chdir(ROOT)
    names = stages()
    assert names[0] == "collect"
    assert names.index("train") < names.index("evaluate") < names.index("register") < names.index("package")

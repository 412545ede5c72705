"""``recloop rollout``: what it shows, and that a word needs its reason."""

import json
from getpass import getuser

import pytest
from typer.testing import CliRunner

from recloop.cli import app
from recloop.delivery import Target, read_routing, rollout
from recloop.delivery.lease import take
from recloop.settings import places
from recloop.store import open_store


@pytest.fixture
def engine():
    engine = open_store(places().store)
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    opened = rollout.begin(engine, "new", "test", "try")
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_canary(engine, opened.id, "green", target, 0.05, "test", "go", (0.25, 0.5))
    return engine


def run(*words):
    return CliRunner().invoke(app, ["rollout", *words])


def test_status_names_the_step_the_last_word_and_who_controls(engine):
    said = run("status").stdout
    for part in (
        "new against old is canary",
        "step 1 of 3: 5%",
        "test: go",
        "nobody: `recloop rollout start`",
    ):
        assert part in said
    with take(engine, "flow (host:1)"):
        assert "controlled by flow (host:1)" in run("status").stdout
    found = json.loads(run("status", "--json").stdout)
    assert (found["state"], found["step"]["later"]) == ("canary", [0.25, 0.5])


def test_pause_and_resume_are_written_with_who_and_why(engine):
    assert run("pause", "--why", "holiday").exit_code == 0
    assert "is paused" in run("status").stdout
    assert run("pause").exit_code == 1
    assert "recloop rollout start" in run("resume").stdout
    paused = rollout.transitions_of(engine)[1]
    assert (paused.target, paused.who, paused.why) == ("paused", getuser(), "holiday")
    assert "holiday" in run("history").stdout


def test_a_step_is_skipped_only_with_a_reason(engine):
    answer = run("promote", "--step")
    assert answer.exit_code == 1
    assert "needs a reason" in answer.stderr
    assert run("promote", "--step", "--why", "known to be well").exit_code == 0
    assert read_routing(engine)[1].canary_share == 0.25
    assert rollout.current(engine).state == "canary"


def test_a_refusal_and_its_remedy_stay_visible(engine):
    rollout.refuse(engine, 1, "flow", "canary: worse. To pass: answer within 500 ms")
    said = run("status").stdout
    assert "no rollout is open" in said
    assert "To pass: answer within 500 ms" in said


def test_start_without_a_challenger_says_what_to_do(engine):
    answer = run("start")
    assert answer.exit_code == 1
    assert "retrain first" in answer.stderr

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
from recloop.store.tables import exposures


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
    with take(engine, "flow (host:1)", term=3600.0):
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


def test_status_shows_the_planned_sample_and_the_progress_of_the_ab_test(engine):
    rollout.grow(engine, 1, 1, "test", "well")
    rollout.grow(engine, 1, 2, "test", "well")
    told = {"metric": "reward_per_request", "guardrails": [], "people": 4000, "effect": 0.1, "looks": 5}
    rollout.start_ab(engine, 1, 3, 0.75, told, "test", "canary passed")
    with engine.begin() as connection:
        rows = [
            {"experiment": "rollout-1", "user_id": f"u{n}", "arm": "champion", "ts": 1} for n in range(100)
        ]
        connection.execute(exposures.insert(), rows)
    said = run("status").stdout
    assert "new against old is ab" in said
    assert "A/B test: 100 of 4,000 planned people (2%); 75% of the people get the challenger" in said
    found = json.loads(run("status", "--json").stdout)
    assert (found["people"], found["planned"]) == (100, 4000)
    rollout.refuse(engine, 1, "flow", "ab: 'challenger' loses", {"ko": "'challenger' 패배"})
    said = run("status").stdout
    assert "'challenger' loses" in said
    assert "'challenger' 패배" in said, "who decides reads it in both languages"


def test_a_shadow_is_left_early_only_with_its_slot(engine):
    rollout.abort(engine, 1, "me", "again")
    opened = rollout.begin(engine, "new", "test", "try")
    answer = run("promote", "--step", "--why", "hurry")
    assert (answer.exit_code, "its slot has not started" in answer.stderr) == (1, True)
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_shadow(engine, opened.id, "green", target, 0.5, "test", "go")
    assert "is shadow" in run("status").stdout
    answer = run("promote", "--step", "--why", "known to be well")
    assert (answer.exit_code, "gets 1% of the people" in answer.stdout) == (0, True), answer.stderr
    assert read_routing(engine)[1].challenger == "green"


def test_what_stands_by_is_told_and_retired_by_hand(engine):
    rollout.promote(engine, 1, "test", "better")
    assert "stands by: `recloop rollout rollback`" in run("status").stdout
    assert run("retire", "--why", "memory is short").exit_code == 0
    assert set(read_routing(engine)[1].slots) == {"green"}
    last = rollout.transitions_of(engine)[0]
    assert (last.target, last.who, last.why) == ("retired", getuser(), "memory is short")
    assert run("rollback").exit_code == 1

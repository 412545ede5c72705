"""`recloop experiment`, as a product manager calls it."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from recloop.cli import app
from recloop.experiments import catalogue
from recloop.schema import Event, Impression
from recloop.settings import places
from recloop.store import append, open_store

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.chdir(ROOT)
    runner = CliRunner()
    return lambda *words: runner.invoke(app, ["experiment", *words])


def test_a_plan_from_figures_has_a_row_per_lift_and_a_plot(run, tmp_path):
    out = tmp_path / "plan.png"
    words = ("--mean", "0.1", "--per-day", "2000", "--lift", "0.1", "--lift", "0.2", "--out", str(out))
    answer = json.loads(run("plan", *words, "--json").stdout)
    assert [one["lift"] for one in answer["plans"]] == [0.1, 0.2]
    assert answer["plans"][0]["people"] > 3.5 * answer["plans"][1]["people"]
    assert out.exists()
    table = run("plan", *words).stdout
    assert f"{answer['plans'][0]['people']:,}" in table
    assert "whole weeks" in table


def test_a_plan_from_the_store(run, tmp_path):
    out = ("--out", str(tmp_path / "plan.png"))
    answer = run("plan", *out)
    assert answer.exit_code == 1
    assert "give the baseline by hand" in answer.stderr
    day = 86_400_000_000
    shown = [
        Impression(
            request_id=f"r{n}", position=0, user_id=f"u{n}", item_id="a", propensity=1.0, policy="p",
            ts=100 * day + n,
        )
        for n in range(50)
    ]  # fmt: skip
    acts = [
        Event(event_id=f"e{n}", user_id=f"u{n}", item_id="a", kind="click", ts=101 * day) for n in range(10)
    ]
    append(open_store(places().store), shown, acts)
    answer = json.loads(run("plan", "--metric", "clicks_per_request", "--days", "5", *out, "--json").stdout)
    assert answer["given"]["per_day"] == 10
    assert run("plan", "--metric", "joy").exit_code == 1


def test_start_list_report_widen_stop(run):
    words = ("photos", "--people", "200", "--effect", "0.1", "--primary", "clicks_per_request")
    more = ("--guardrail", "buyers", "--arm", "now=0.5", "--arm", "bigger=0.5", "--last", "500")
    assert run("start", *words, *more).exit_code == 0
    taken = run("start", "other", *words[1:])
    assert taken.exit_code == 1
    assert "overlap with photos" in taken.stderr.replace("\n", " ")
    (one,) = json.loads(run("list", "--json").stdout)
    assert one["experiment"]["arms"] == {"now": 0.5, "bigger": 0.5}
    assert "photos" in run("list").stdout
    assert run("widen", "photos", "--last", "1000").exit_code == 0

    engine = open_store(places().store)
    arms = catalogue.expose(engine, catalogue.find(engine, "photos"), [f"u{n}" for n in range(200)], ts=10)
    shown = [
        Impression(
            request_id=f"r{user}", position=0, user_id=user, item_id="a", propensity=1.0, policy="p", ts=20
        )
        for user in arms
    ]
    acts = [
        Event(event_id=f"e{user}", user_id=user, item_id="a", kind="click", ts=30)
        for n, (user, arm) in enumerate(arms.items())
        if arm == "bigger" or n % 5 == 0
    ]
    append(engine, shown, acts)
    assert "'bigger' 승리" in run("report", "photos", "--language", "ko").stdout
    answer = json.loads(run("report", "photos", "--json").stdout)
    assert answer["outcomes"] == {"bigger": "win"}
    assert answer["verdict"]["en"]["bigger"].startswith("'bigger' wins: clicks per request changes by +")
    assert run("stop", "photos", "--why", "decided").exit_code == 0
    assert "no experiment" in run("stop", "photos").stderr
    assert "no experiment" in run("report", "nothing").stderr


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--arm", "one"), "NAME=SHARE"),
        (("--arm", "a=0.5", "--arm", "b=0.2"), "add up to 1"),
        (("--primary", "joy"), "is no metric"),
        (("--guardrail", "buyers", "--guardrail", "buyers"), "one role"),
        (("--alpha", "2"), "alpha"),
    ],
)
def test_what_cannot_be_started_says_why(run, words, why):
    answer = run("start", "photos", "--people", "200", "--effect", "0.1", *words)
    assert answer.exit_code == 1
    assert why in answer.stderr.replace("\n", " ")

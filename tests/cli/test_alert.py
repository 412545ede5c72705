"""A person's word on alerts."""

import json
import re

import pytest
from typer.testing import CliRunner

from recloop.cli import app
from recloop.settings import places
from recloop.store import open_store
from recloop.watch import Alert, notify

ALERTS = [
    Alert("SlotFails slot=blue", "critical", "slot blue fails", {}, "serving"),
    Alert("RewardLoss", "critical", "reward fell", {}),
    Alert("Quarantined", "warning", "rows were refused", {}, "inputs", hold=1e9),
]


def run(*words):
    return CliRunner().invoke(app, ["alert", *words])


@pytest.fixture
def engine():
    engine = open_store(places().store)
    notify(engine, ALERTS, [])
    return engine


def states():
    rows = json.loads(run("list", "--json").stdout)["alerts"]
    return {row["alert"]: row["state"] for row in rows}


def test_a_list_says_what_becomes_of_each(engine):
    assert states() == {
        "SlotFails slot=blue": "told",
        "RewardLoss": "caused by another",
        "Quarantined": "pending",
    }
    rows = json.loads(run("list", "--json").stdout)["alerts"]
    assert {row["runbook"] for row in rows} >= {"docs/runbooks/SlotFails.md"}


def test_an_alert_is_taken_in_hand(engine):
    done = run("ack", "Slot*")
    assert (done.exit_code, done.stdout.split("\n")[0]) == (0, "SlotFails slot=blue")
    assert states()["SlotFails slot=blue"].endswith("has it in hand")
    missing = run("ack", "Nothing*")
    assert missing.exit_code == 1
    assert "no alert fits 'Nothing*'" in re.sub(r"\s+", " ", missing.output)


def test_a_silence_needs_a_reason_and_is_shown(engine):
    assert run("silence", "Quarantined").exit_code == 2
    done = run("silence", "Quarantined", "--why", "an import of old rows", "--hours", "1")
    assert done.exit_code == 0, done.output
    assert states()["Quarantined"] == "silenced"
    assert "an import of old rows" in run("list").stdout


def test_a_silence_can_be_ended_before_its_time(engine):
    run("silence", "Quarantined", "--why", "an import of old rows", "--hours", "1")
    run("silence", "Reward*", "--why", "known", "--hours", "1")
    done = run("unsilence", "Quarantined")
    assert (done.exit_code, done.stdout.strip()) == (0, "Quarantined is no longer silent")
    assert states()["Quarantined"] == "pending"
    assert "known" in run("list").stdout, "another one holds"
    again = run("unsilence", "Quarantined")
    assert again.exit_code == 1
    assert "no silence of 'Quarantined' holds" in re.sub(r"\s+", " ", again.output)


def test_doctor_names_an_address_that_is_not_understood_and_keeps_its_secret(monkeypatch):
    def found():
        rows = json.loads(CliRunner().invoke(app, ["doctor", "--json"]).stdout)
        return next(row for row in rows if row["what"] == "alerts")

    assert found()["well"]
    monkeypatch.setenv("RECLOOP_ALERT_URLS", "json://127.0.0.1/ nonsense://user:secret@x")
    assert not found()["well"]
    assert "number 2" in found()["found"]
    assert "secret" not in str(found())


def test_without_alerts_all_is_well():
    assert "all is well" in run("list").stdout

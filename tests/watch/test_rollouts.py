"""What a gate does to a rollout is told once, by the same rules for both; what a person does is not."""

import json

import pytest
from sqlalchemy import update

from recloop.delivery import Target, rollout
from recloop.delivery.wording import words
from recloop.schema import now_us
from recloop.settings import load_params
from recloop.store import open_store
from recloop.store.tables import transitions
from recloop.watch import Alert, check, notify, standing, tell
from recloop.watch.exporter import Figures
from recloop.watch.rollouts import NEWEST, STATE, states
from tests.delivery.live import PARAMS
from tests.watch.test_exporter import scraped
from tests.watch.test_watch import webhook  # noqa: F401, a fixture

MINUTE = 60_000_000
BLUE, GREEN = Target("http://127.0.0.1:1", "old"), Target("http://127.0.0.1:2", "new")
SLOW = words(
    "told", why=words("slow", p99_ms=900.0, allowed_ms=500.0), remedy=words("be_fast", allowed_ms=500.0)
)


def by(gate, told=SLOW):
    return words("by", gate=words(gate), told=told)


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    rollout.install(engine, "blue", BLUE, "test", "first")
    return engine


def canary(engine, policy="new"):
    number = rollout.begin(engine, policy, "controller", words("registered")).id
    rollout.start_canary(engine, number, "green", Target(GREEN.url, policy), 0.3, "controller", by("smoke"))
    return number


def names(alerts):
    return [alert.rule for alert in alerts]


def series(engine):
    ((name, values),) = states(engine, now_us()).items()
    assert name == STATE
    return [dict(labels) for labels in values]


@pytest.mark.parametrize("end", ["refused", "paused", "rolled_back"])
def test_a_gate_s_end_has_its_gate_and_reason_and_is_told_once(engine, end, webhook):  # noqa: F811
    url, got, _ = webhook
    number = canary(engine)
    assert tell(engine, [url]) == []
    if end == "refused":
        rollout.refuse(engine, number, "controller", by("canary"))
    elif end == "paused":
        rollout.pause(engine, number, "controller", words("late", seconds=9.0, told=by("canary")))
    else:
        rollout.promote(engine, number, "controller", by("canary"))
        assert tell(engine, [url]) == [], "a promotion is no alert"
        rollout.roll_back(engine, "controller", by("switch"))
    rule = {"refused": "RolloutRefused", "paused": "RolloutPaused", "rolled_back": "RolloutRolledBack"}[end]
    gate = "switch" if end == "rolled_back" else "canary"
    assert series(engine) == [
        {"rollout": str(number), "policy": "new", "state": end, "gate": gate, "reason": "slow"}
    ]
    (alert,) = tell(engine, [url])
    assert (alert.rule, alert.layer) == (rule, "rollout")
    assert tell(engine, [url]) == []
    assert notify(engine, check(engine, load_params(PARAMS)), [url]) == [], "nor by the flow `monitor`"
    assert [message["title"] for message in got] == [f"recloop: {rule}"]
    assert f"docs/runbooks/{rule}.md" in got[0]["message"]
    assert "canary" in alert.told("en") or gate == "switch"
    assert ("카나리 게이트" if gate == "canary" else "전환 게이트") in alert.told("ko")


def test_what_a_person_does_is_no_alert(engine):
    number = canary(engine)
    rollout.pause(engine, number, "kim", "canary: we wait for the weekend")
    assert tell(engine, []) == []
    rollout.resume(engine, number, "kim", "on")
    rollout.promote(engine, number, "kim", "it is fine")
    rollout.roll_back(engine, "kim", "it was not")
    rollout.abort(engine, canary(engine, "third"), "kim", "enough")
    assert tell(engine, []) == []
    assert {(one["gate"], one["reason"]) for one in series(engine)} == {("", "")}


def test_a_pause_is_over_when_the_rollout_goes_on_and_a_refusal_after_it_is_told_at_once(engine, webhook):  # noqa: F811
    url, got, _ = webhook
    number = canary(engine)
    rollout.pause(engine, number, "controller", words("late", seconds=9.0, told=by("canary")))
    assert names(tell(engine, [url])) == ["RolloutPaused"]
    rollout.resume(engine, number, "kim", "people come now")
    assert tell(engine, [url]) == []
    assert standing(engine) == []
    rollout.refuse(engine, number, "controller", by("canary"))
    assert names(tell(engine, [url])) == ["RolloutRefused"], "another fault, within the quarter of an hour"
    rollout.refuse(engine, canary(engine, "third"), "controller", by("canary"))
    assert names(tell(engine, [url])) == ["RolloutRefused"], "and another rollout"
    assert len(got) == 3


def test_what_the_gate_has_dealt_with_is_not_told_beside_it(engine, webhook):  # noqa: F811
    url, got, _ = webhook
    rollout.refuse(engine, canary(engine), "controller", by("canary"))
    now = now_us()
    tell(engine, [url], now)
    of = {policy: {"slot": "green", "policy": policy} for policy in ("new", "old")}
    fails = {
        policy: Alert(f"SlotFails policy={policy}", "critical", "fails", {}, "serving", 60.0, labels)
        for policy, labels in of.items()
    }
    (told,) = [state.alert for state in standing(engine)]
    for minute in range(5):
        notify(engine, [told, fails["new"]], [url], now=now + minute * MINUTE)
    assert len(got) == 1
    for minute in range(5, 10):
        notify(engine, [told, *fails.values()], [url], now=now + minute * MINUTE)
    assert [message["title"] for message in got] == ["recloop: RolloutRefused", "recloop: SlotFails"]
    assert got[1]["message"].count("fails") == 1, "of the champion's slot alone"


def test_rows_of_a_version_without_codes_are_understood(engine):
    rollout.refuse(
        engine, canary(engine), "controller", "canary: 99 % are answered within 900 ms", {"low": 1.0}
    )
    (one,) = series(engine)
    assert (one["gate"], one["reason"]) == ("canary", "verbatim")
    with engine.begin() as connection:
        figures = {"said": {"code": "of a newer version"}}
        connection.execute(update(transitions).values(figures=json.dumps(figures)))
    assert series(engine)[0]["gate"] == ""


def test_series_stay_few_and_a_clock_that_was_set_back_does_no_harm(engine):
    for n in range(NEWEST + 3):
        rollout.refuse(engine, canary(engine, f"p{n}"), "controller", by("canary"))
    found = states(engine, now_us() - 10**9)[STATE]
    assert len(found) == NEWEST
    assert set(found.values()) == {0.0}


def test_the_exporter_sees_rollouts_between_its_looks_at_everything(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    figures = Figures(engine, load_params(PARAMS))
    figures.refresh()
    assert not [key for key in scraped(figures) if key[0] == STATE]
    before = scraped(figures)
    rollout.refuse(engine, canary(engine), "controller", by("canary"))
    figures.refresh_rollouts()
    after = scraped(figures)
    (key,) = [key for key in after if key[0] == STATE]
    assert dict(key[1:]) == series(engine)[0]
    assert before.keys() == after.keys() - {key}, "all else stays"

"""Release: which rollout it goes on with, and the gates that need no people."""

from pathlib import Path

import pytest

from flows.release import smoke
from recloop.delivery import Conflict, rollout
from recloop.delivery.release import ask_gate, first_of_its_kind, open_for, ready, release
from recloop.delivery.routing import Target, read_routing
from recloop.schema import Item
from recloop.settings import ParamsError, load_params, places
from recloop.store import add_items, open_store
from tests.conftest import STALL
from tests.delivery.live import Live, until
from tests.delivery.standin import Standin

ROOT = Path(__file__).parents[2]
PARAMS = load_params(ROOT / "params.yaml")
BLUE, GREEN = Target("http://127.0.0.1:1", "one"), Target("http://127.0.0.1:2", "two")


@pytest.fixture
def engine():
    engine = open_store(places().store)
    rollout.install(engine, "blue", BLUE, "test", "first")
    return engine


def canary_of(engine, policy: str):
    opened = open_for(engine, policy, slot_lives=False)
    rollout.start_canary(engine, opened.id, "green", GREEN, 0.3, "test", "well")
    return rollout.current(engine)


def test_an_open_rollout_of_this_challenger_goes_on(engine):
    opened = open_for(engine, "two", slot_lives=False)
    assert opened.state == "pending"
    assert open_for(engine, "two", slot_lives=False) == opened
    found = canary_of(engine, "two")
    assert open_for(engine, "two", slot_lives=True) == found


def test_a_newer_challenger_ends_the_rollout_of_an_older_one(engine):
    old = canary_of(engine, "two")
    new = open_for(engine, "three", slot_lives=True)
    assert (new.challenger, new.state) == ("three", "pending")
    assert rollout.history(engine)[1].id == old.id
    assert rollout.history(engine)[1].state == "aborted"
    assert read_routing(engine)[1].challenger is None, "nobody is sent to the old challenger any more"


def test_a_canary_without_its_slot_begins_anew(engine):
    old = canary_of(engine, "two")
    new = open_for(engine, "two", slot_lives=False)
    assert new.id != old.id
    assert new.state == "pending"
    assert "slot was gone" in rollout.transitions_of(engine, old.id)[0].why


def test_there_is_nothing_to_challenge_before_the_first_champion():
    with pytest.raises(Conflict, match="no champion"):
        open_for(open_store(places().store), "two", slot_lives=False)


@pytest.mark.parametrize(
    ("difference", "low", "high", "outcome"),
    [(2.0, 1.0, 3.0, "pass"), (-2.0, -3.0, -1.0, "fail"), (0.0, -9.0, 9.0, "no-data")],
)
@pytest.mark.parametrize("best", ["random", "most_popular"])
def test_the_first_policy_has_to_hold_its_own_against_the_better_baseline(
    best, difference, low, high, outcome
):
    worse = {"difference": 8.0, "low": 7.0, "high": 9.0}
    names = ("random", "most_popular")
    evaluation = {
        "lift": dict.fromkeys(names, worse) | {best: {"difference": difference, "low": low, "high": high}},
        "user_model": {key: {"value": 4.0} for key in names} | {best: {"value": 10.0}},
    }
    verdict = first_of_its_kind(evaluation, PARAMS)
    assert verdict.outcome == outcome
    assert best.replace("_", " ") in verdict.why
    assert verdict.figures["champion"] == 10.0
    assert verdict.figures["challenger"] == 10.0 + difference


def test_without_a_gateway_there_is_no_data(engine):
    verdict = ask_gate(PARAMS, engine, canary_of(engine, "two"))
    assert verdict.outcome == "no-data"
    assert "recloop up" in verdict.why


@pytest.fixture(scope="module")
def standins():
    with Standin("old") as blue, Standin("two") as green:
        yield blue, green


def test_the_smoke_test_of_the_flow_asks_the_slot(standins, monkeypatch):
    monkeypatch.chdir(ROOT)
    add_items(open_store(places().store), [Item(item_id=f"i{n}", title="t") for n in range(20)])
    for mode, outcome in (("strict", "pass"), ("ok", "fail"), ("nan", "fail")):
        standins[1].behave(mode)
        assert smoke.fn(Target(standins[1].url, "two")).outcome == outcome, mode
    assert smoke.fn(Target(standins[1].url, "another")).outcome == "fail"


def test_the_gate_that_is_asked_is_that_of_the_state(standins, tmp_path, monkeypatch):
    monkeypatch.setattr("recloop.delivery.shadow.UNDER_WAY", PARAMS.delivery.shadow_requests)
    for slot in standins:
        slot.behave("ok")
    live, target = Live(tmp_path), Target(standins[1].url, "two")
    rollout.install(live.engine, "blue", Target(standins[0].url, "old"), "test", "first")
    opened = rollout.begin(live.engine, "two", "test", "try")
    rollout.start_shadow(live.engine, opened.id, "green", target, 1.0, "test", "go")

    delivery = PARAMS.delivery.model_copy(update={"bake_seconds": 0.0, "max_p99_ms": 1000 * STALL})
    params = PARAMS.model_copy(update={"delivery": delivery})

    def verdict():
        return ask_gate(params, live.engine, rollout.current(live.engine))

    with live:
        for n in range(PARAMS.delivery.shadow_requests):
            live.ask(f"u{n}")
        until(lambda: verdict().figures["asked"] == PARAMS.delivery.shadow_requests)
        assert (verdict().name, verdict().outcome) == ("shadow", "pass"), verdict().why
        rollout.start_canary(live.engine, opened.id, "green", target, 0.5, "test", "go")
        assert (verdict().name, verdict().outcome) == ("canary", "no-data")
        assert verdict().figures["asked"] == 0, "the shadow's requests are not people's"
        live.settled(read_routing(live.engine)[0])
        for n in range(600):
            live.ask(f"u{n}", k=1)
        told = {"metric": "reward_per_request", "guardrails": [], "people": 900, "effect": 0.1, "looks": 5}
        rollout.start_ab(live.engine, opened.id, 1, 0.9, told, "test", "go")
        live.settled(read_routing(live.engine)[0])
        for n in range(600):
            live.ask(f"u{n}", k=1)
        until(lambda: verdict().figures.get("planned") == 900)
        assert verdict().name == "ab", verdict().why
        rollout.pause(live.engine, opened.id, "test", "hold")
        assert (verdict().name, "planned" in verdict().figures) == ("ab", False), "no looks during a pause"
        opened = rollout.current(live.engine)
    assert "recloop up" in ask_gate(PARAMS, live.engine, opened).why


def test_no_switch_without_the_slot_or_the_registry(standins, tmp_path):
    standins[1].behave("ok")
    target, where = Target(standins[1].url, "two"), places(home=tmp_path / "r")
    assert ready(where, target, 5).outcome == "pass"
    gone = ready(where, Target("http://127.0.0.1:9", "two"), 5)
    assert (gone.outcome, "does not answer" in gone.why) == ("fail", True)
    broken = places(home=tmp_path / "broken")
    (broken.home / "mlflow.db").write_bytes(b"no database" * 1000)
    found = ready(broken, target, 5)
    assert (found.outcome, "registry" in found.why) == ("no-data", True), found.why


def test_a_metric_that_is_not_known_is_named_before_anything_is_done(engine, monkeypatch):
    wrong = PARAMS.delivery.model_copy(update={"guardrails": ("joy",)})
    with pytest.raises(ParamsError, match="'joy' is no metric"):
        release(places(), PARAMS.model_copy(update={"delivery": wrong}), "test")
    assert rollout.current(engine) is None

"""A slot is warmed up with real requests and edges, and no person is sent to one that answers badly."""

import pytest

from recloop.delivery import Target
from recloop.delivery.smoke import answers, smoke, trials
from recloop.schema import Event, Impression, Item
from recloop.store import add_items, append, open_store, set_consent
from tests.delivery.standin import MODES, Standin

K = 5


@pytest.fixture(scope="module")
def slot():
    with Standin("new") as slot:
        yield slot


@pytest.fixture
def engine(tmp_path, slot):
    slot.behave("ok")
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    add_items(engine, [Item(item_id=f"i{n}", title=f"Title {n}") for n in range(20)])
    return engine


def impression(user, device="phone"):
    return Impression(
        request_id=f"r-{user}", position=0, user_id=user, item_id="i1", propensity=0.5, policy="old",
        device=device, ts=1,
    )  # fmt: skip


def test_it_asks_as_people_did_and_at_the_edges(engine, slot):
    append(engine, [impression("ann"), impression("bob", "desktop"), impression("cho")])
    append(engine, acts=[Event(event_id="e", user_id="ann", item_id="i1", kind="click", ts=2)])
    set_consent(engine, "cho", "personalisation", False)
    set_consent(engine, "bob", "personalisation", False)
    set_consent(engine, "bob", "personalisation", True)
    found = trials(engine, K)
    said = {trial.what: trial.ask for trial in found}
    assert said["bob, who asked lately"].context.device == "desktop"
    assert "ann, who asked lately" in said
    assert not any("cho" in what for what in said), "who refused to be looked at is a stranger to slots"
    for what in ("an unknown person", "an unknown person who wants one item"):
        assert said[what].user_id.startswith("smoke-")
    assert said["an unknown person who excludes an item"].exclude
    verdict = smoke(engine, Target(slot.url, "new"), K)
    assert verdict.outcome == "fail"
    assert "unknown field" in verdict.why, "the stand-in takes everything, which a slot must not"
    assert {"ann", "bob"} <= set(slot.seen())
    assert "cho" not in slot.seen()


def test_a_verdict_names_nobody(engine, slot):
    append(engine, [impression("ann.of.somewhere")])
    slot.behave("twice")
    verdict = smoke(engine, Target(slot.url, "new"), K)
    assert "ann.of.somewhere" not in verdict.why


@pytest.mark.parametrize("word", [True, False, None])
def test_where_consent_is_asked_for_only_who_agreed_is_looked_at(engine, word, monkeypatch):
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    append(engine, [impression("ann")])
    if word is not None:
        set_consent(engine, "ann", "personalisation", word)
    said = [trial.what for trial in trials(engine, K)]
    assert ("ann, who asked lately" in said) == ("ann, who has no history" in said) == bool(word)


def test_who_has_no_history_is_asked_for(engine):
    append(engine, [impression("ann"), impression("zoe")])
    append(engine, acts=[Event(event_id="e", user_id="ann", item_id="i1", kind="click", ts=2)])
    assert "zoe, who has no history" in [trial.what for trial in trials(engine, K)]


def test_a_sound_slot_passes_with_its_times(engine, slot):
    slot.behave("strict")
    verdict = smoke(engine, Target(slot.url, "new"), K)
    assert verdict.outcome == "pass", verdict.why
    assert verdict.figures["requests"] == 2 * len(trials(engine, K))
    assert 0 < verdict.figures["p50_ms"] <= verdict.figures["most_ms"]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("ok", "hang")])
def test_an_answer_that_does_not_hold_together_fails_with_the_reason(engine, slot, mode):
    slot.behave(mode)
    verdict = smoke(engine, Target(slot.url, "new"), K)
    assert verdict.outcome == "fail"
    assert verdict.why.startswith("an unknown person got no valid answer"), verdict.why


def test_an_item_that_is_gone_or_a_short_slate_fails(engine, slot):
    add_items(engine, [Item(item_id="i2", title="Title 2", available=False)])
    verdict = smoke(engine, Target(slot.url, "new"), K)
    assert "item i2, which the store does not have as available" in verdict.why
    verdict = smoke(engine, Target(slot.url, "new"), 30)
    assert verdict.outcome == "fail"


def test_a_slot_that_is_gone_fails(engine):
    assert "status 0" in smoke(engine, Target("http://127.0.0.1:9", "new"), K).why
    assert "status 0" in answers(Target("http://127.0.0.1:9", "new"), K)


def test_before_the_switch_one_sound_answer_is_enough(slot):
    slot.behave("ok")
    assert answers(Target(slot.url, "new"), K) == ""
    assert "policy new" in answers(Target(slot.url, "another"), K)

"""A canary in steps: who has the challenger keeps it, gates are asked at each step, people have a word."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from recloop.delivery import Conflict, Target, Verdict, controller, read_routing, rollout
from recloop.delivery.controller import Controller, Hands
from recloop.delivery.gates import canary
from recloop.delivery.lease import take
from recloop.experiments import sample_ratio
from recloop.store import append, open_store
from tests.delivery.live import until
from tests.delivery.test_gates import REWARD, RULES, WELL, browse, impression

OLD, NEW = Target("http://127.0.0.1:1", "old"), Target("http://127.0.0.1:2", "new")
SHARES = (0.01, 0.05, 0.25, 0.5)
PASS, FAIL, WAIT = (Verdict("canary", word, f"says {word}") for word in ("pass", "fail", "no-data"))
STEPS = RULES.model_copy(update={"canary_steps": SHARES[:-1], "canary_share": SHARES[-1], "step_seconds": 60})
PATIENT = STEPS.model_copy(update={"step_seconds": 3600})


@pytest.fixture
def engine(store_url, monkeypatch):
    monkeypatch.setattr(controller, "LOOK", 0.05)
    engine = open_store(store_url)
    rollout.install(engine, "blue", OLD, "test", "first")
    return engine


def started(engine, shares=SHARES):
    opened = rollout.begin(engine, "new", "test", "try")
    rollout.start_canary(engine, opened.id, "green", NEW, shares[0], "test", "go", shares[1:])
    return opened


def hands_of(answers, **others):
    """Hands whose gates answer as told, the last answer again and again, and all else well."""
    left = list(answers)
    well = {
        "judge": lambda: Verdict("offline", "pass", "judged"),
        "start": lambda: NEW,
        "smoke": lambda _: Verdict("smoke", "pass", "sound", {"requests": 4}),
        "ask": lambda _: left.pop(0) if len(left) > 1 else left[0],
        "plan": lambda: {"people": 1000},
        "ready": lambda _: Verdict("switch", "pass", "ready"),
    }
    return Hands(**(well | others))


def drive(engine, answers, params=STEPS, judged="pass", **others):
    """A controller over a real store; what it does outside is as told."""
    verdict = Verdict("offline", judged, "judged", remedy="train longer")
    hands = hands_of(answers, judge=lambda: verdict, **others)
    opened = rollout.current(engine) or rollout.begin(engine, "new", "test", "try")
    with take(engine, "me", patience=0) as lease:
        Controller(engine, lease, hands, params, "green", "me", lambda _: None).drive(opened.id)
    return rollout.find(engine, opened.id)


def told(engine, rollout_id):
    return [(t.source, t.target, t.figures.get("share")) for t in rollout.transitions_of(engine, rollout_id)][
        ::-1
    ]


def test_growing_shares_send_nobody_back_in_the_gateway_s_routing(engine):
    opened, people = started(engine), [f"u{n}" for n in range(3000)]
    before: set[str] = set()
    for number, share in enumerate(SHARES, 1):
        routing = read_routing(engine)[1]
        with_it = {user for user in people if routing.order(user)[0] == "green"}
        assert before <= with_it
        assert len(with_it) / len(people) == pytest.approx(share, abs=0.03)
        before = with_it
        if number < len(SHARES):
            rollout.grow(engine, opened.id, number, "test", "well", {"requests": 9})
    assert rollout.transitions_of(engine, opened.id)[0].figures["gate"] == {"requests": 9}
    with pytest.raises(Conflict, match="is the last"):
        rollout.grow(engine, opened.id, 4, "test", "more")


def test_who_comes_back_for_a_better_challenger_does_not_upset_the_next_step(engine):
    """All of step 1's challenger people come back, half of the others: the arms of step 2 are alike."""
    opened, people = started(engine, (0.3, 0.6)), [f"u{n}" for n in range(1500)]
    luck = np.random.default_rng(0)
    with_it = {user for user in people if read_routing(engine)[1].order(user)[0] == "green"}
    rollout.grow(engine, opened.id, 1, "test", "well")
    back = [user for user in people if user in with_it or luck.random() < 0.5]
    served = {user: "new" if read_routing(engine)[1].order(user)[0] == "green" else "old" for user in back}
    append(engine, [impression(user, user, policy) for user, policy in served.items()], [])
    counts = [list(served.values()).count(name) for name in ("old", "new")]
    assert sample_ratio(counts, [0.4, 0.6]) < 1e-6  # all who came: not comparable
    figures = canary(engine, opened, RULES, REWARD, WELL).figures
    assert figures["sample_ratio_p"] > 0.05
    assert figures["requests"] == counts[1] - len(with_it)


def test_a_step_is_taken_once(engine):
    opened = started(engine)
    rollout.grow(engine, opened.id, 1, "test", "well")
    with pytest.raises(Conflict, match="step 2"):
        rollout.grow(engine, opened.id, 1, "test", "late")
    assert rollout.step_of(engine, opened.id).share == 0.05


def test_of_controllers_that_grow_at_once_one_does(engine):
    opened, won, gate = started(engine), [], threading.Barrier(4)

    def act(number):
        own = open_store(str(engine.url))
        gate.wait()
        try:
            rollout.grow(own, opened.id, 1, f"c{number}", "race")
            won.append(number)
        except Conflict:
            pass

    threads = [threading.Thread(target=act, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert read_routing(engine)[1].canary_share == 0.05


def test_every_step_asks_its_gate_and_the_last_one_promotes(engine):
    end = drive(engine, [WAIT, PASS])
    assert end.state == "promoted"
    steps = [("pending", "canary", 0.01), *(("canary", "canary", share) for share in SHARES[1:])]
    assert told(engine, end.id) == [("", "pending", None), *steps, ("canary", "promoted", None)]


def test_a_failing_step_gives_everybody_the_champion_again(engine):
    end = drive(engine, [PASS, replace(FAIL, remedy="be faster")])
    assert end.state == "refused"
    assert read_routing(engine)[1].challenger is None
    assert rollout.transitions_of(engine, end.id)[0].why == "canary: says fail. To pass: be faster"


def test_a_step_without_data_pauses_with_the_reason(engine):
    end = drive(engine, [WAIT], STEPS.model_copy(update={"step_seconds": 0.6}))
    assert end.state == "paused"
    assert "says no-data" in rollout.transitions_of(engine, end.id)[0].why
    assert read_routing(engine)[1].canary_share == 0.01, "who has the challenger keeps it"
    rollout.resume(engine, end.id, "me", "people are back")
    assert drive(engine, [PASS]).state == "promoted"


@pytest.mark.parametrize(("judged", "state"), [("fail", "refused"), ("no-data", "paused")])
def test_who_does_not_pass_offline_meets_nobody(engine, judged, state):
    end = drive(engine, [PASS], judged=judged)
    assert (end.state, read_routing(engine)[1].challenger) == (state, None)
    assert "train longer" in rollout.transitions_of(engine, end.id)[0].why


def test_a_person_s_word_is_honoured_by_a_controller_that_is_under_way(engine):
    answers, asked = [WAIT], []
    opened = rollout.begin(engine, "new", "test", "try")
    hands = hands_of([], ask=lambda _: asked.append(answers[0]) or answers[0])

    def control():
        with take(engine, "me", patience=0) as lease:
            Controller(engine, lease, hands, PATIENT, "green", "me", lambda _: None).drive(opened.id)

    thread = threading.Thread(target=control)
    thread.start()
    until(lambda: rollout.find(engine, opened.id).state == "canary")
    rollout.pause(engine, opened.id, "person", "hold")
    answers[0] = PASS
    until(lambda: asked.count(PASS) >= 2)
    assert rollout.find(engine, opened.id).state == "paused"
    assert rollout.step_of(engine, opened.id).number == 1, "a pause holds a step that would pass"
    rollout.grow(engine, opened.id, 1, "person", "skip it")
    until(lambda: rollout.find(engine, opened.id).state == "promoted")
    thread.join(100)
    assert not thread.is_alive()


def test_a_controller_may_not_overrule_a_pause_and_a_person_may(engine):
    opened = started(engine, (0.5,))
    rollout.pause(engine, opened.id, "me", "hold")
    with take(engine, "c", patience=0) as lease, pytest.raises(Conflict, match="is paused"):
        rollout.promote(engine, opened.id, "c", "passed", fence=lease.check)
    rollout.promote(engine, opened.id, "me", "I know")
    assert read_routing(engine)[1].champion == "green"


def test_a_pause_before_the_canary_goes_on_there(engine):
    opened = rollout.begin(engine, "new", "test", "try")
    rollout.pause(engine, opened.id, "me", "hold")
    rollout.resume(engine, opened.id, "me", "go")
    assert rollout.current(engine).state == "pending"


def test_an_early_step_asks_for_no_harm_and_the_last_for_the_margin(engine):
    rules = RULES.model_copy(update={"canary_steps": (0.25,), "step_requests": 30})
    opened = started(engine, rules.shares)
    browse(engine, "old", 0.5, people=40, seed=1)
    browse(engine, "new", 0.5, people=15, seed=2)
    verdict = canary(engine, opened, rules, REWARD, WELL)
    assert verdict.outcome == "pass", verdict.why
    baking = canary(engine, opened, rules.model_copy(update={"bake_seconds": 900}), REWARD, WELL)
    assert (baking.outcome, baking.why.partition("of")[2]) == ("no-data", " 900 s so far")
    rollout.grow(engine, opened.id, 1, "test", verdict.why)
    verdict = canary(engine, opened, rules, REWARD, WELL)
    assert (verdict.outcome, verdict.figures["requests"]) == ("no-data", 0), "steps are not pooled"


def test_a_refusal_says_what_would_have_to_change(engine):
    opened = started(engine, (0.5,))
    browse(engine, "old", 0.6, seed=1)
    browse(engine, "new", 0.3, seed=2)
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert verdict.outcome == "fail"
    allowed = -RULES.non_inferiority_margin * verdict.figures["champion"]
    assert f"above {allowed:.3f}" in verdict.remedy
    assert f"{allowed - verdict.figures['low']:.3f} more" in verdict.remedy

"""The way from a slot that starts to one that retires: who may stop it, what may fail, who serves then."""

import threading
import time

import pytest

from recloop.delivery import Conflict, Target, Verdict, controller, read_routing, rollout
from recloop.delivery.controller import Controller
from recloop.delivery.lease import take
from recloop.delivery.retirement import left_warm, retire, tidy
from recloop.settings import places
from recloop.store import open_store
from recloop.watch import raised, standing, tell
from tests.delivery.live import Live
from tests.delivery.standin import Standin
from tests.delivery.test_gates import RULES
from tests.delivery.test_steps import FAIL, NEW, OLD, PASS, WAIT, drive, hands_of

ALL = RULES.model_copy(
    update={
        "shadow_share": 0.3,
        "shadow_requests": 10,
        "canary_steps": (0.1,),
        "canary_share": 0.4,
        "ab_share": 0.7,
        "step_seconds": 60,
    }
)
LATE = ALL.model_copy(update={"step_seconds": 0.05, "ab_seconds": 0.05})
SHADOW = Verdict("shadow", "pass", "as fast", {"overlap": 0.6})


@pytest.fixture
def engine(monkeypatch):
    monkeypatch.setattr(controller, "LOOK", 0.02)
    engine = open_store(places().store)
    rollout.install(engine, "blue", OLD, "test", "first")
    return engine


def states(engine, opened):
    return [t.target for t in rollout.transitions_of(engine, opened.id)][::-1]


def of_state(**answers):
    """A gate per state, all passing but for those that are given."""
    return {"ask": lambda here: answers.get(here.state, Verdict(here.state, "pass", f"{here.state} is well"))}


def test_every_state_on_the_way_is_written_with_who_when_why_and_figures(engine):
    end = drive(engine, [SHADOW, PASS, PASS, PASS], ALL)
    retire(engine, "me", "stood by long enough")
    told = rollout.transitions_of(engine, end.id)[::-1]
    way = ["pending", "shadow", "canary", "canary", "ab", "promoted", "retired"]
    assert [t.target for t in told] == way
    assert [t.source for t in told] == ["", *way[:-1]]
    assert all(t.who and t.why for t in told)
    assert [t.ts for t in told] == sorted(t.ts for t in told)
    shadow, canary, ab = told[1], told[2], told[4]
    assert shadow.figures == {"shadow_share": 0.3, "slot": "green", "gate": {"requests": 4}}
    assert (canary.figures["share"], canary.figures["gate"]) == (0.1, {"overlap": 0.6})
    assert (ab.figures["share"], ab.figures["before"], ab.figures["plan"]) == (0.7, 0.4, {"people": 1000})


def test_a_shadow_gets_no_person(engine):
    seen = []

    def ask(here):
        seen.append((here.state, read_routing(engine)[1]))
        return WAIT if len(seen) < 3 else FAIL

    end = drive(engine, [], ALL, ask=ask)
    assert end.state == "refused"
    assert {state for state, _ in seen} == {"shadow"}
    for _, routing in seen:
        assert (routing.challenger, routing.shadow, routing.shadow_share) == (None, "green", 0.3)
        assert {tuple(routing.order(f"u{n}")) for n in range(50)} == {("blue",)}
    assert set(read_routing(engine)[1].slots) == {"blue"}


@pytest.mark.parametrize("state", ["shadow", "canary", "ab"])
def test_without_data_it_is_paused_with_the_reason_and_resumed_where_it_was(engine, state):
    lacks = Verdict(state, "no-data", "too few came", remedy="more people")
    end = drive(engine, [], LATE, **of_state(**{state: lacks}))
    last = rollout.transitions_of(engine, end.id)[0]
    assert (end.state, last.source) == ("paused", state)
    assert "too few came. To pass: more people" in last.why
    before = read_routing(engine)[1]
    rollout.resume(engine, end.id, "me", "they come now")
    assert rollout.find(engine, end.id).state == state
    assert read_routing(engine)[1] == before
    assert drive(engine, [PASS], ALL).state == "promoted"


@pytest.mark.parametrize("state", ["shadow", "canary", "ab"])
def test_a_failing_gate_gives_everybody_the_champion_and_people_are_told_once(engine, state):
    fails = Verdict(state, "fail", "it is worse", {"low": -1.0}, "be better")
    end = drive(engine, [], ALL, **of_state(**{state: fails}))
    assert end.state == "refused"
    assert {tuple(read_routing(engine)[1].order(f"u{n}")) for n in range(50)} == {("blue",)}
    (alert,) = tell(engine, [])
    name = f"RolloutRefused gate={state} policy=new reason=verbatim rollout={end.id}"
    assert (alert.name, alert.severity) == (name, "critical")
    assert f"the gate {state} refused new" in alert.summary
    assert tell(engine, []) == []
    assert [one.name for _, one in raised(engine)] == [alert.name]
    assert tell(engine, [], alert_time(7)) == []
    assert standing(engine) == [], "what is long ago is no news"


def alert_time(hours):
    return time.time_ns() // 1000 + int(hours * 3.6e9)


def test_a_failing_smoke_test_sends_nobody_there(engine):
    end = drive(engine, [PASS], ALL, smoke=lambda _: Verdict("smoke", "fail", "p is NaN", remedy="mend it"))
    assert states(engine, end) == ["pending", "refused"]
    assert rollout.transitions_of(engine, end.id)[0].why == "smoke: p is NaN. To pass: mend it"


def test_a_person_may_end_the_shadow_early_and_also_from_a_pause(engine):
    opened = rollout.begin(engine, "new", "test", "try")
    rollout.start_shadow(engine, opened.id, "green", NEW, 0.3, "test", "go")
    rollout.pause(engine, opened.id, "me", "hold")
    with take(engine, "c", patience=0) as lease, pytest.raises(Conflict, match="is paused"):
        rollout.start_canary(engine, opened.id, "green", NEW, 0.1, "c", "passed", fence=lease.check)
    rollout.start_canary(engine, opened.id, "green", NEW, 0.1, "me", "I know it")
    assert read_routing(engine)[1].challenger == "green"


def test_looks_of_the_ab_test_stay_written_and_its_sentence_decides(engine):
    looks = [{"people": n, "fraction": n / 1000, "outcomes": {}} for n in (200, 400)]
    lost = {"ko": "'challenger' 패배", "look": looks[1]}
    answers = [
        *[PASS] * 3,
        Verdict("ab", "no-data", "too early", {"look": looks[0]}),
        Verdict("ab", "no-data", "too early", {"look": None}),
        Verdict("ab", "fail", "'challenger' loses", lost),
    ]
    end = drive(engine, answers, ALL)
    assert rollout.looks_of(engine, end.id)[:2] == looks
    last = rollout.transitions_of(engine, end.id)[0]
    assert (end.state, last.why, last.figures["ko"]) == ("refused", "ab: 'challenger' loses", lost["ko"])


def test_an_ab_test_that_cannot_be_planned_pauses_with_the_reason(engine):
    def plan():
        raise ValueError("1 people came within 28 days")

    end = drive(engine, [PASS], LATE, plan=plan)
    assert states(engine, end)[-2:] == ["canary", "paused"]
    assert "cannot be planned: 1 people came" in rollout.transitions_of(engine, end.id)[0].why


def test_the_champion_goes_on_while_the_registry_is_down(engine):
    """Nothing is switched before the registry can be told; when it is back the rollout goes on."""
    down = Verdict("switch", "no-data", "the registry does not answer")
    end = drive(engine, [PASS], LATE, ready=lambda _: down)
    assert (end.state, read_routing(engine)[1].champion) == ("paused", "blue")
    assert "the registry does not answer" in rollout.transitions_of(engine, end.id)[0].why
    rollout.resume(engine, end.id, "me", "it is back")
    assert drive(engine, [PASS], ALL).state == "promoted"


def test_a_slot_that_is_dead_before_the_switch_is_refused_and_after_it_rolled_back(engine):
    dead = Verdict("switch", "fail", "the slot does not answer")
    assert drive(engine, [PASS], ALL, ready=lambda _: dead).state == "refused"
    assert read_routing(engine)[1].champion == "blue"
    answers = [Verdict("switch", "pass", "ready"), dead]
    end = drive(engine, [PASS], ALL, ready=lambda _: answers.pop(0))
    assert states(engine, end)[-2:] == ["promoted", "rolled_back"]
    assert read_routing(engine)[1].slots == {"blue": OLD}
    assert {alert.name for alert in tell(engine, [])} == {
        "RolloutRefused gate=switch policy=new reason=verbatim rollout=1",
        f"RolloutRolledBack gate=switch policy=new reason=verbatim rollout={end.id}",
    }


def test_people_are_served_while_the_slot_dies_at_the_switch(tmp_path):
    with Standin("old") as blue, Standin("new") as green:
        live = Live(tmp_path)
        rollout.install(live.engine, "blue", Target(blue.url, "old"), "test", "first")
        opened = rollout.begin(live.engine, "new", "test", "try")
        rollout.start_canary(live.engine, opened.id, "green", Target(green.url, "new"), 0.5, "test", "go")
        with live:
            green.process.kill()
            rollout.promote(live.engine, opened.id, "gate", "better")
            live.settled(read_routing(live.engine)[0])
            slates = [live.ask(f"u{n}").json() for n in range(20)]
            assert {(slate["policy"], slate["fallback"]) for slate in slates} == {("old", False)}
            rollout.roll_back(live.engine, "controller", "the slot does not answer")
            live.settled(read_routing(live.engine)[0])
            assert live.ask("u").json()["policy"] == "old"


@pytest.mark.parametrize("blocked", ["judge", "start", "smoke", "ask", "plan", "ready"])
def test_an_abort_is_honoured_while_the_controller_is_busy(tmp_path, monkeypatch, blocked):
    """By a controller as shipped whose work takes minutes, and by a gateway; prints how soon."""
    busy, leave = threading.Event(), threading.Event()
    well = hands_of([PASS])

    def takes_long(*words):
        busy.set()
        leave.wait(250)
        return getattr(well, blocked)(*words)

    monkeypatch.setattr(controller, "LOOK", 0.02 if blocked in ("plan", "ready") else controller.LOOK)
    with Standin("old") as blue, Standin("new") as green:
        live = Live(tmp_path)
        rollout.install(live.engine, "blue", Target(blue.url, "old"), "test", "first")
        opened = rollout.begin(live.engine, "new", "test", "try")
        start = {} if blocked == "start" else {"start": lambda: Target(green.url, "new")}
        hands = hands_of([PASS], **(start | {blocked: takes_long}))

        def control():
            with take(live.engine, "me", patience=0) as lease:
                Controller(live.engine, lease, hands, ALL, "green", "me", lambda _: None).drive(opened.id)

        thread = threading.Thread(target=control)
        with live:
            thread.start()
            assert busy.wait(100)
            monkeypatch.setattr(controller, "LOOK", 1.0)
            begun = time.monotonic()
            answer = live.client.post(
                "/rollout/abort",
                json={"why": "stop it"},
                headers={"authorization": f"Bearer {live.places.token.get_secret_value()}"},
            )
            assert answer.status_code == 200, answer.text
            live.settled(read_routing(live.engine)[0])
            routed = time.monotonic() - begun
            thread.join(100)
            ended = time.monotonic() - begun
            assert not thread.is_alive(), "what it was busy with still goes on"
            print(
                f"\nabort during {blocked}: people after {routed:.2f} s, the controller after {ended:.2f} s"
            )
            assert {live.ask(f"u{n}").json()["policy"] for n in range(20)} == {"old"}
        leave.set()
    assert rollout.find(live.engine, opened.id).state == "aborted"


def promoted(engine):
    end = drive(engine, [PASS], ALL)
    assert (end.state, set(read_routing(engine)[1].slots)) == ("promoted", {"blue", "green"})
    return end


def test_the_old_slot_stands_by_for_its_time_and_then_retires(engine):
    end, where = promoted(engine), places()
    assert 3000 < left_warm(engine, 3600) <= 3600
    assert tidy(where, engine, "me", 3600) == []
    assert set(read_routing(engine)[1].slots) == {"blue", "green"}
    tidy(where, engine, "me", 0.0)
    assert (states(engine, end)[-1], set(read_routing(engine)[1].slots)) == ("retired", {"green"})
    assert rollout.transitions_of(engine, end.id)[0].why == "stood by for 0 s"
    with pytest.raises(Conflict, match="no slot stands by"):
        rollout.roll_back(engine, "me", "too late")
    assert left_warm(engine, 0.0) is None


def test_a_rollback_is_instant_while_it_stands_by_and_then_nothing_retires(engine):
    end = promoted(engine)
    rollout.roll_back(engine, "me", "complaints")
    assert read_routing(engine)[1].slots == {"blue": OLD}
    assert left_warm(engine, 0.0) is None
    tidy(places(), engine, "me", 0.0)
    assert states(engine, end)[-1] == "rolled_back"


def test_the_next_rollout_retires_what_stands_by_since_it_needs_the_slot(engine):
    first = promoted(engine)
    opened = rollout.begin(engine, "newest", "test", "try")
    with pytest.raises(Conflict, match="abort it first"):
        rollout.roll_back(engine, "me", "while another is open")
    hands = hands_of([WAIT], start=lambda: Target("http://127.0.0.1:3", "newest"))
    with take(engine, "me", patience=0) as lease:
        Controller(engine, lease, hands, LATE, "blue", "me", lambda _: None).drive(opened.id)
    assert states(engine, first)[-1] == "retired"
    assert read_routing(engine)[1].shadow == "blue"
    rollout.abort(engine, opened.id, "me", "no")
    assert set(read_routing(engine)[1].slots) == {"green"}


def test_tidying_leaves_an_open_rollout_and_a_living_controller_alone(engine):
    promoted(engine)
    with take(engine, "busy", patience=0):
        tidy(places(), engine, "me", 0.0)
        assert set(read_routing(engine)[1].slots) == {"blue", "green"}
    opened = rollout.begin(engine, "newest", "test", "try")
    tidy(places(), engine, "me", 0.0)
    assert set(read_routing(engine)[1].slots) == {"blue", "green"}
    rollout.abort(engine, opened.id, "me", "no")
    tidy(places(), engine, "me", 0.0)
    assert set(read_routing(engine)[1].slots) == {"green"}

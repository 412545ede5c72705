"""A rollout goes only where it may, with its routing, and for one controller at a time."""

import contextlib
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from recloop.delivery import Conflict, Routing, Target, read_routing, rollout
from recloop.store import open_store
from recloop.store.tables import rollouts, routing, transitions

OLD, NEW = Target("http://127.0.0.1:1", "old"), Target("http://127.0.0.1:2", "new")


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    rollout.install(engine, "blue", OLD, "test", "first")
    return engine


def canary(engine):
    opened = rollout.begin(engine, "new", "test", "try it")
    rollout.start_canary(engine, opened.id, "green", NEW, 0.3, "test", "go")
    return opened


def count(engine, table):
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_the_way_of_a_good_challenger_and_back(engine):
    opened = canary(engine)
    assert read_routing(engine)[1] == Routing(
        {"blue": OLD, "green": NEW}, "blue", "green", 0.3, f"rollout-{opened.id}"
    )
    rollout.promote(engine, opened.id, "gate", "better", {"difference": 0.2})
    now = read_routing(engine)[1]
    assert (now.champion, now.challenger, set(now.slots)) == ("green", None, {"blue", "green"})
    assert rollout.current(engine) is None
    rollout.roll_back(engine, "me", "complaints")
    assert read_routing(engine)[1] == Routing({"blue": OLD}, "blue")
    told = [(t.source, t.target, t.who) for t in rollout.transitions_of(engine, opened.id)]
    assert told[::-1] == [
        ("", "pending", "test"),
        ("pending", "canary", "test"),
        ("canary", "promoted", "gate"),
        ("promoted", "rolled_back", "me"),
    ]
    assert rollout.transitions_of(engine)[1].figures == {"difference": 0.2}


@pytest.mark.parametrize("leave", [rollout.refuse, rollout.abort])
@pytest.mark.parametrize("started", [False, True])
def test_a_turned_down_challenger_gets_nobody_and_the_next_may_come(engine, leave, started):
    opened = canary(engine) if started else rollout.begin(engine, "new", "test", "try it")
    leave(engine, opened.id, "gate", "worse")
    assert read_routing(engine)[1] == Routing({"blue": OLD}, "blue")
    assert rollout.begin(engine, "newer", "test", "again").state == "pending"


def test_what_may_not_happen_changes_nothing(engine):
    opened = canary(engine)
    before = read_routing(engine), count(engine, transitions)
    forbidden: list[Callable] = [
        lambda: rollout.begin(engine, "third", "test", "at once"),
        lambda: rollout.install(engine, "green", NEW, "test", "over it"),
        lambda: rollout.retire(engine, "green", "test", "serves"),
        lambda: rollout.start_canary(engine, opened.id, "green", NEW, 0.5, "test", "again"),
        lambda: rollout.roll_back(engine, "test", "was not promoted"),
        lambda: rollout.promote(engine, 99, "test", "no such rollout"),
    ]
    for step in forbidden:
        with pytest.raises(Conflict):
            step()
        assert (read_routing(engine), count(engine, transitions)) == before
    rollout.promote(engine, opened.id, "test", "good")
    with pytest.raises(Conflict, match="is promoted, not"):
        rollout.abort(engine, opened.id, "test", "too late")


def test_a_challenger_may_not_take_the_champion_s_slot(engine):
    opened = rollout.begin(engine, "new", "test", "try")
    with pytest.raises(Conflict, match="other one"):
        rollout.start_canary(engine, opened.id, "blue", NEW, 0.3, "test", "go")
    assert rollout.current(engine).state == "pending", "state and routing change together or not at all"


def test_without_a_champion_there_is_nothing_to_challenge(store_url):
    engine = open_store(store_url)
    with pytest.raises(Conflict, match="install the first slot"):
        rollout.begin(engine, "new", "test", "try")
    assert count(engine, rollouts) == 0


def test_a_slot_that_stands_by_can_be_retired(engine):
    rollout.promote(engine, canary(engine).id, "test", "good")
    rollout.retire(engine, "blue", "test", "stop it")
    assert set(read_routing(engine)[1].slots) == {"green"}
    with pytest.raises(Conflict, match="no slot stands by"):
        rollout.roll_back(engine, "test", "too late")


@pytest.mark.parametrize("rivals", [(rollout.promote, rollout.promote), (rollout.promote, rollout.abort)])
def test_of_controllers_that_race_exactly_one_wins(new_store, rivals):
    for _ in range(8):
        url = new_store()
        engine = open_store(url)
        rollout.install(engine, "blue", OLD, "test", "first")
        opened = canary(engine)
        won: list[str] = []
        gate = threading.Barrier(6)

        def act(number, url=url, opened=opened, won=won, gate=gate):
            own = open_store(url)
            gate.wait()
            try:
                rivals[number % 2](own, opened.id, f"c{number}", "race")
                won.append(f"c{number}")
            except Conflict:
                pass

        threads = [threading.Thread(target=act, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        last = rollout.transitions_of(engine, opened.id)[0]
        assert (last.who, last.source) == (won[0], "canary")
        champion = "green" if last.target == "promoted" else "blue"
        assert read_routing(engine)[1].champion == champion, "the routing is the winner's"
        assert count(engine, routing) == 3


def test_of_rollouts_that_begin_at_once_one_is_open(store_url):
    url = store_url
    rollout.install(open_store(url), "blue", OLD, "test", "first")
    begun, gate = [], threading.Barrier(6)

    def act(number):
        own = open_store(url)
        gate.wait()
        with contextlib.suppress(Conflict):
            begun.append(rollout.begin(own, f"p{number}", "test", "race").challenger)

    threads = [threading.Thread(target=act, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [rollout.current(open_store(url)).challenger] == begun


STEPS: dict[str, Callable] = {
    "begin": lambda engine, n: rollout.begin(engine, f"p{n}", "h", "w"),
    "canary": lambda engine, n: rollout.start_canary(
        engine, latest(engine), idle(engine), Target("http://127.0.0.1:9", f"p{n}"), 0.2, "h", "w"
    ),
    "promote": lambda engine, n: rollout.promote(engine, latest(engine), "h", "w"),
    "abort": lambda engine, n: rollout.abort(engine, latest(engine), "h", "w"),
    "refuse": lambda engine, n: rollout.refuse(engine, latest(engine), "h", "w"),
    "back": lambda engine, n: rollout.roll_back(engine, "h", "w"),
    "retire": lambda engine, n: rollout.retire(engine, ("blue", "green")[n % 2], "h", "w"),
}


def latest(engine):
    return next((r.id for r in rollout.history(engine, 1)), 0)


def idle(engine):
    return "green" if read_routing(engine)[1].champion == "blue" else "blue"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.sampled_from(sorted(STEPS)), max_size=12))
def test_no_order_of_steps_leaves_people_without_a_champion(tmp_path_factory, order):
    engine = open_store(f"sqlite:///{tmp_path_factory.mktemp('r')}/s.db")
    rollout.install(engine, "blue", OLD, "test", "first")
    for number, name in enumerate(order):
        try:
            STEPS[name](engine, number)
        except Conflict:
            continue
        opened, (_, here) = rollout.current(engine), read_routing(engine)
        assert here.champion in here.slots
        assert (here.challenger is not None) == (opened is not None and opened.state == "canary")


def test_order_asks_the_assigned_slot_first_and_then_another():
    both = Routing({"blue": OLD, "green": NEW}, "blue", "green", 0.3, "s")
    first = [both.order(f"u{n}")[0] for n in range(2000)]
    assert abs(first.count("green") / 2000 - 0.3) < 0.05
    assert all(set(both.order(f"u{n}")) == {"blue", "green"} for n in range(50))
    assert Routing({"blue": OLD}, "blue").order("u") == ["blue"]
    assert Routing({"blue": OLD, "green": NEW}, "green").order("u") == ["green", "blue"]


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"champion": "red"}, "red"),
        ({"champion": "blue", "challenger": "blue"}, "at once"),
        ({"champion": "blue", "canary_share": 1.5}, "canary_share"),
    ],
)
def test_a_routing_that_contradicts_itself_is_refused(fields, word):
    with pytest.raises(ValueError, match=word):
        Routing(slots={"blue": OLD}, **fields)

"""Leases: whoever sleeps, dies or has a wrong clock, of two controllers only one acts."""

import itertools
import multiprocessing
import os
import random
import signal
import time

import pytest
from sqlalchemy import select

from recloop.delivery import (
    Target,
    Verdict,
    controller,
    lease,
    read_routing,
    retirement,
    rollout,
    transition,
)
from recloop.delivery.controller import Controller
from recloop.delivery.lease import Fenced, take
from recloop.delivery.retirement import left_warm
from recloop.store import open_store
from recloop.store.tables import leases
from tests.delivery.test_gates import RULES
from tests.delivery.test_steps import hands_of

OLD, NEW = Target("http://127.0.0.1:1", "old"), Target("http://127.0.0.1:2", "new")
PARAMS = RULES.model_copy(
    update={
        "shadow_share": 0.5,
        "shadow_requests": 1,
        "canary_steps": (0.1, 0.2),
        "canary_share": 0.4,
        "ab_share": 0.7,
        "step_seconds": 60,
    }
)
WAY = ["pending", "shadow", "canary", "canary", "canary", "ab", "ab", "promoted", "retired"]
STEPS = ("begin", "start_shadow", "start_canary", "grow", "start_ab", "note_look", "promote", "retire")
TERM, LONG = 0.3, 3600.0
STALLED = 75  # exit code
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def url(store_url):
    rollout.install(open_store(store_url), "blue", OLD, "test", "first")
    return store_url


def ticking(step):
    """A clock that is so many seconds further at each look, however long that took."""
    ticks = itertools.count()
    return lambda: step * next(ticks)


def beats(engine):
    """A clock by which the holder beats three times in its term, as it means to."""

    def clock():
        with engine.connect() as connection:
            return TERM / 3 * connection.execute(select(leases.c.beat)).scalar_one()

    return clock


def test_a_second_controller_is_told_who_is_under_way(url):
    engine = open_store(url)
    with take(engine, "one", TERM) as first, pytest.raises(rollout.Conflict, match="one"):
        take(engine, "two", TERM, patience=3 * TERM, clock=beats(engine))
    second = take(engine, "two", LONG, patience=0)
    assert second.token > first.token
    assert lease.holder(engine) == "two"


def test_who_slept_through_its_term_is_refused_and_nothing_changes(url):
    engine = open_store(url)
    slept = take(engine, "one", LONG)  # as a stopped process: it does not renew
    opened = rollout.begin(engine, "new", "one", "try", slept.check)
    awake = take(engine, "two", LONG, patience=2 * LONG, clock=ticking(LONG))
    before = read_routing(engine), rollout.transitions_of(engine)
    with pytest.raises(Fenced):
        rollout.start_canary(engine, opened.id, "green", NEW, 0.5, "one", "go", fence=slept.check)
    assert not slept.renew()
    assert (read_routing(engine), rollout.transitions_of(engine)) == before
    assert rollout.current(engine).state == "pending"
    rollout.start_canary(engine, opened.id, "green", NEW, 0.5, "two", "go", fence=awake.check)


@pytest.mark.parametrize("shift", [-3600, 3600])
def test_a_clock_that_is_set_wrong_lets_no_two_act(url, monkeypatch, shift):
    engine = open_store(url)
    first = take(engine, "one", 60.0)
    true, seen = lease.now_us, []
    monkeypatch.setattr(lease, "now_us", lambda: true() + shift * 1_000_000)
    right = ticking(7.0)
    second = take(engine, "two", 60.0, 120.0, lambda: seen.append(right()) or seen[-1])
    assert 60.0 <= seen[-1] - seen[0] < 90.0, "neither sooner nor much later than by the right clock"
    rollout.begin(engine, "new", "two", "try", second.check)
    opened = rollout.current(engine)
    for _ in range(2):
        with pytest.raises(Fenced):
            rollout.abort(engine, opened.id, "one", "late", first.check)
        monkeypatch.setattr(lease, "now_us", true)
    assert rollout.current(engine) == opened


def test_who_was_only_late_may_go_on(url, monkeypatch):
    engine = open_store(url)
    one = take(engine, "one", 60.0)
    true = lease.now_us
    monkeypatch.setattr(lease, "now_us", lambda: true() + 100_000_000)
    with pytest.raises(Fenced):
        rollout.begin(engine, "new", "one", "try", one.check)
    assert one.renew()
    rollout.begin(engine, "new", "one", "try", one.check)


def control(url: str, who: str, dies: tuple[int, str] | None, patience: float = 90.0) -> None:
    """A controller as a process; it kills itself at the n-th transition: before it, within it or after it.

    It ends with the exit code ``STALLED`` where it came back too late for its lease and was refused.
    """
    controller.LOOK = 0.01
    engine = open_store(url)
    count = [0]

    def mortal(module, name, moment):
        real = getattr(module, name)

        def call(*args, **kwargs):
            count[0] += moment == "before"
            if dies == (count[0], moment) and moment != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if dies == (count[0], moment):
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(module, name, call)

    mortal(transition, "note", "within")  # the state is set, and nothing is committed yet
    for name in STEPS:
        mortal(rollout, name, "after")
        mortal(rollout, name, "before")

    def ask(here: rollout.Rollout) -> Verdict:
        """Passes everywhere, in the A/B test at its second look."""
        early = here.state == "ab" and not rollout.looks_of(engine, here.id)
        figures = {"look": {"people": 5, "fraction": 0.5, "outcomes": {}}} if early else {}
        return Verdict(here.state, "no-data" if early else "pass", "well", figures)

    try:
        with take(engine, who, TERM, patience) as mine:
            last = next(iter(rollout.history(engine, 1)), None)
            opened = last or rollout.begin(engine, "new", who, "try", mine.check)
            hands = hands_of([], ask=ask)
            Controller(engine, mine, hands, PARAMS, "green", who, lambda _: None).drive(opened.id)
            if left_warm(engine, 0.0) is not None:  # as `tidy` does, whose slots are processes
                retirement.retire(engine, who, "stood by long enough", mine.check)
    except Fenced:
        os._exit(STALLED)
    os._exit(0)  # Python's own way out would end what other tests left here, whose threads a fork lacks


def run_killed(url: str, dies: tuple[int, str]) -> bool:
    """Whether the first died as planned and the second lived; who stalls for a term is fenced instead."""
    first = FORK.Process(target=control, args=(url, "one", dies))
    second = FORK.Process(target=control, args=(url, "two", None))
    first.start()
    time.sleep(0.1)
    second.start()
    for process in (first, second):
        process.join(100)
    engine = open_store(url)
    told = rollout.transitions_of(engine)[::-1]
    said = f"{dies}: {[(t.who, t.target) for t in told]}"
    assert first.exitcode in (0, -signal.SIGKILL, STALLED), said
    assert second.exitcode in (0, STALLED), said
    assert [t.target for t in told].count("promoted") <= 1, said
    if second.exitcode == STALLED:
        return False
    assert [t.target for t in told] == WAY, said
    assert all(t.who and t.why and t.ts for t in told), said
    assert [t.source for t in told] == ["", *WAY[:-1]], said
    who = [t.who for t in told]
    assert who == sorted(who, key=("one", "two").index), f"they took turns: {said}"
    assert read_routing(engine)[1].champion == "green"
    engine.dispose()
    return first.exitcode != STALLED


def killed_runs(new_store, count, seed=7):
    rng = random.Random(seed)
    moments = [(n, moment) for n in range(1, len(WAY) + 2) for moment in ("before", "within", "after")]
    order = moments * (count // len(moments) + 1)
    rng.shuffle(order)
    for dies in order[:count]:
        assert any(run_killed(_installed(new_store()), dies) for _ in range(5)), f"{dies}: it stalls always"


def _installed(url):
    engine = open_store(url)
    rollout.install(engine, "blue", OLD, "test", "first")
    engine.dispose()  # a connection must not cross a fork
    return url


def test_a_controller_that_is_killed_at_a_transition_is_replaced(new_store):
    killed_runs(new_store, 3)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_controller_that_is_killed_anywhere_is_replaced(new_store):
    killed_runs(new_store, int(os.environ.get("RECLOOP_KILLS", "200")))


def test_a_dead_controller_s_rollout_is_taken_over_within_five_seconds(url):
    open_store(url).dispose()
    dead = FORK.Process(target=_take_and_die, args=(url,))
    dead.start()
    dead.join(100)
    assert dead.exitcode == -signal.SIGKILL
    seen, clock = [], ticking(0.1)
    take(open_store(url), "two", clock=lambda: seen.append(clock()) or seen[-1])
    assert lease.TERM <= seen[-1] - seen[0] < 5


def _take_and_die(url: str) -> None:
    take(open_store(url), "one").renew()
    os.kill(os.getpid(), signal.SIGKILL)

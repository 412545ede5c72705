"""What gateways count, added up: known numbers, and any split among gateways gives the same figures."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloop.delivery import Routing, Target
from recloop.delivery.tally import (
    REMEMBERED,
    SlotFigures,
    Tally,
    added,
    shadow_figures,
    shadow_name,
    slot_figures,
    step_name,
)
from tests.delivery.test_shadow import slate_of

SLOTS = {"blue": Target("http://a", "old"), "green": Target("http://b", "new")}
STEP = step_name("rollout-1", 0.3)


def canary(share=0.3, salt="rollout-1"):
    return Routing(SLOTS, "blue", "green", share, salt)


def figures(*tallies, step=STEP):
    return slot_figures(added(tally.snapshot().get(step, {}) for tally in tallies))


def test_two_gateways_are_added():
    one, two = Tally(), Tally()
    for _ in range(98):
        one.attempt(canary(), "green", "ok", 0.004)
    for _ in range(49):
        two.attempt(canary(), "green", "ok", 0.9)
    for outcome in ("timeout", "invalid", "status"):
        two.attempt(canary(), "green", outcome, 0.004)
    for tally in (one, two):
        tally.attempt(canary(), "blue", "timeout", 60.0)  # the champion's
    found = figures(one, two)
    assert (found.asked, found.failed) == (150, 3)
    # 148.5 of 150: 101 lie below 5 ms, 47.5 of the other 49 are that share of the way from 750 to 1000 ms
    assert found.p99_ms == pytest.approx(750 + 250 * 47.5 / 49)
    assert figures(one).p99_ms == pytest.approx(2 + 3 * 0.99)
    assert figures(two).failed == 3
    assert figures() == SlotFigures(0, 0, None)
    two.attempt(canary(), "green", "timeout", 60.0)
    two.attempt(canary(), "green", "timeout", 60.0)
    assert figures(one, two).p99_ms == float("inf")


OUTCOMES = st.tuples(st.sampled_from(["ok", "timeout"]), st.floats(0, 9, allow_nan=False))


@given(seen=st.lists(st.tuples(OUTCOMES, st.integers(0, 3)), max_size=60))
def test_how_requests_are_split_among_gateways_does_not_matter(seen):
    whole, parts = Tally(), [Tally() for _ in range(4)]
    for (outcome, seconds), gateway in seen:
        whole.attempt(canary(), "green", outcome, seconds)
        parts[gateway].attempt(canary(), "green", outcome, seconds)
    assert figures(*parts) == figures(whole)


def test_each_step_and_each_rollout_begins_at_0():
    tally = Tally()
    tally.attempt(canary(0.3), "green", "timeout", 2.0)
    tally.attempt(canary(0.5), "green", "ok", 0.01)
    assert figures(tally).failed == 1
    assert figures(tally, step=step_name("rollout-1", 0.5)) == SlotFigures(1, 0, pytest.approx(9.95))
    assert figures(tally, step=step_name("rollout-2", 0.3)) == SlotFigures(0, 0, None)
    assert figures(tally, step=step_name("rollout-1", 1)).asked == 0
    tally.attempt(canary(1.0), "green", "ok", 0.01)
    assert figures(tally, step=step_name("rollout-1", 1)).asked == 1


def test_without_a_rollout_nothing_is_counted_and_old_steps_are_forgotten():
    tally = Tally()
    tally.attempt(Routing(SLOTS, "blue"), "blue", "ok", 0.01)
    assert tally.snapshot() == {}
    for number in range(REMEMBERED + 1):
        tally.attempt(canary(salt=f"rollout-{number}"), "green", "ok", 0.01)
    assert list(tally.snapshot()) == [step_name(f"rollout-{n}", 0.3) for n in range(1, REMEMBERED + 1)]


def test_shadows_of_two_gateways_are_added():
    one, two = Tally(), Tally()
    one.compare("r", slate_of("ab", 1.0, 0.02), slate_of("ab", 3.0, 0.4))
    two.compare("r", slate_of("ab", 2.0, 0.02), slate_of("cd", 5.0, 1.0))
    for tally in (one, two):
        tally.copy("r", "ok", 0.004, 0.015)
    two.copy("r", "timeout", 2.0, 0.015)
    two.drop("r")
    found = shadow_figures(added(tally.snapshot()[shadow_name("r")] for tally in (one, two)))
    assert (found.asked, found.failed, found.dropped, found.overlap) == (3, 1, 1, 0.5)
    assert found.scores == ((2, 3.0, 5.0), (2, 8.0, 34.0))
    assert found.propensities == ({"0.0215443": 2}, {"1": 1, "0.464159": 1})
    assert found.p50_ms == (pytest.approx(2 + 3 * 0.75), pytest.approx(15.0))

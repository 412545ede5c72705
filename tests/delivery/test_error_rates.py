"""Whole rollouts, simulated through the real gate: how often it is wrong, and how often it finds harm."""

from collections import Counter

import numpy as np
import pytest
from sqlalchemy import func, select

from recloop.delivery import Target, rollout
from recloop.delivery.gates import canary
from recloop.delivery.tally import SlotFigures
from recloop.experiments import place
from recloop.settings.params import DeliveryParams
from recloop.store import open_store
from recloop.store.tables import events, impressions
from tests.delivery.test_gates import REWARD

PARAMS = DeliveryParams(
    canary_steps=(0.1, 0.25),
    step_requests=60,
    canary_share=0.5,
    canary_requests=400,
    non_inferiority_margin=0.15,
    guardrails=("dismissals_per_request",),
    max_error_rate=0.01,
    max_p99_ms=500,
)
RATE, DISMISS = 0.5, 0.05
WORTH = RATE * REWARD.click + DISMISS * REWARD.dismiss  # of a request
EVERY = 200  # requests between two questions to the gate
PATIENCE = 4000  # requests of a step after which it is paused
RUNS = 200


def simulated(engine, run, factor, params):
    """The end of one rollout whose challenger gets ``factor`` of the champion's clicks; people come back."""
    rng = np.random.default_rng(run)
    opened = rollout.begin(engine, "new", "test", "try")
    share, *later = params.shares
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_canary(engine, opened.id, "green", target, share, "test", "go", later)
    people = [f"{opened.id}-{n}" for n in range(1500)]
    places = np.array([place(person, f"rollout-{opened.id}") for person in people])
    taste, activity = rng.beta(8, 8, 1500) / 0.5, rng.dirichlet(np.full(1500, 0.5))
    count = asked = failed = waited = 0
    while waited < PATIENCE:
        whose = rng.choice(1500, EVERY, p=activity)
        treated = places[whose] < share
        clicked = rng.random(EVERY) < np.clip(RATE * taste[whose] * np.where(treated, factor, 1), 0, 1)
        dismissed = rng.random(EVERY) < DISMISS
        write(engine, opened.id, count, [people[p] for p in whose], treated, clicked, dismissed, rng)
        count, waited = count + EVERY, waited + EVERY
        asked += int(treated.sum())
        failed += int((rng.random(int(treated.sum())) < 0.005).sum())
        verdict = canary(engine, opened, params, REWARD, SlotFigures(asked, failed, 20.0))
        if verdict.outcome == "fail":
            rollout.refuse(engine, opened.id, "gate", verdict.told)
            return "refused"
        if verdict.outcome == "pass" and not later:
            rollout.promote(engine, opened.id, "gate", verdict.told)
            rollout.roll_back(engine, "test", "for the next run")
            return "promoted"
        if verdict.outcome == "pass":
            number = rollout.step_of(engine, opened.id).number
            rollout.grow(engine, opened.id, number, "gate", verdict.told)
            share, *later = later
            asked = failed = waited = 0
    rollout.abort(engine, opened.id, "test", "paused")
    return "paused"


def write(engine, number, count, people, treated, clicked, dismissed, rng):
    devices = rng.choice(["phone", "desktop"], len(people))
    shown = [
        {
            "request_id": f"{number}-{count + n}", "position": 0, "user_id": person, "item_id": f"i{n % 7}",
            "propensity": 0.5, "policy": "new" if treated[n] else "old", "slot": "", "device": devices[n],
            "partial": False, "ts": 1,
        }
        for n, person in enumerate(people)
    ]  # fmt: skip
    acts = [
        {
            "event_id": f"{number}-{count + n}-{kind}", "user_id": people[n], "item_id": f"i{n % 7}",
            "kind": kind, "value": 1.0, "request_id": f"{number}-{count + n}", "ts": 2,
        }
        for kind, whose in (("click", clicked), ("dismiss", dismissed))
        for n in np.flatnonzero(whose)
    ]  # fmt: skip
    with engine.begin() as connection:
        connection.execute(impressions.insert(), shown)
        if acts:
            connection.execute(events.insert(), acts)


@pytest.fixture
def engine(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    return engine


def ends(engine, factor, runs=RUNS, params=PARAMS):
    found = Counter(simulated(engine, run, factor, params) for run in range(runs))
    shares = ", ".join(f"{name} {count / runs:.1%}" for name, count in sorted(found.items()))
    with engine.connect() as connection:
        requests = connection.execute(select(func.count()).select_from(impressions)).scalar_one()
    told = f"{factor:.1%} of the champion's clicks, {runs} rollouts"
    print(f"\n{told}: {shares}; {requests / runs:,.0f} requests each")
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_equal_challenger_is_seldom_rolled_back_over_all_steps(engine):
    found = ends(engine, 1.0)
    assert found["refused"] / RUNS <= 0.05
    assert found["promoted"] / RUNS > 0.5, "a gate that lets nobody through is not wrong either"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_that_is_worse_by_the_margin_is_not_promoted(engine):
    found = ends(engine, 1 - PARAMS.non_inferiority_margin * WORTH / RATE)
    assert found["promoted"] / RUNS <= 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_one_that_is_much_worse_is_refused(engine):
    found = ends(engine, 0.5, 40)
    assert found["refused"] == 40


def test_the_simulation_goes_through_every_step(engine):
    small = PARAMS.model_copy(
        update={
            "step_requests": 10,
            "canary_requests": 20,
            "non_inferiority_margin": 1.0,
            "max_error_rate": 0.1,
        }
    )
    assert simulated(engine, 0, 1.0, small) == "promoted"
    assert [t.target for t in rollout.transitions_of(engine, 1)][::-1] == [
        "pending", "canary", "canary", "canary", "promoted", "rolled_back",
    ]  # fmt: skip

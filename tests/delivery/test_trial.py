"""The A/B test before the switch: planned, looked at as planned, and what it says is done."""

import numpy as np
import pytest

from recloop.delivery import Target, rollout
from recloop.delivery.gates import canary
from recloop.delivery.trial import planned, progress, trial
from recloop.experiments import place
from recloop.experiments.plan import Assumptions, plan
from recloop.schema import Event, Impression
from recloop.store import append, open_store
from tests.delivery.test_gates import REWARD, RULES, WELL

PARAMS = RULES.model_copy(
    update={
        "canary_share": 0.2,
        "ab_share": 0.6,
        "ab_effect": 0.15,
        "step_requests": 20,
        "guardrails": ("dismissals_per_request",),
    }
)


@pytest.fixture
def engine(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    return engine


class People:
    """People who come by their assignment and click at rates of their own around that of their arm."""

    def __init__(self, engine, seed=1):
        self.engine, self.rng, self.count = engine, np.random.default_rng(seed), 0

    def come(self, people, share, rates, salt="", dismiss=(0.0, 0.0), ts=10, lost=0.0):
        shown, acts = [], []
        for person in people:
            treated = bool(salt) and place(person, salt) < share
            if treated and self.rng.random() < lost:
                continue
            own = np.clip(self.rng.normal(rates[treated], 0.1), 0, 1)
            for _ in range(4):
                self.count += 1
                request = f"r{self.count}"
                shown.append(
                    Impression(
                        request_id=request,
                        position=0,
                        user_id=person,
                        item_id="a",
                        propensity=0.5,
                        policy="new" if treated else "old",
                        ts=ts,
                    )
                )
                for kind, rate in (("click", own), ("dismiss", dismiss[treated])):
                    if self.rng.random() < rate:
                        acts.append(
                            Event(
                                event_id=f"e{request}{kind}",
                                user_id=person,
                                item_id="a",
                                kind=kind,
                                request_id=request,
                                ts=ts + 1,
                            )
                        )
        append(self.engine, shown, acts)


def begun(engine, params=PARAMS):
    people = People(engine)
    people.come([f"p{n}" for n in range(400)], 0, (0.4, 0.4))
    opened = rollout.begin(engine, "new", "test", "try")
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_canary(engine, opened.id, "green", target, params.canary_share, "test", "go")
    told = planned(engine, params, REWARD)
    rollout.start_ab(engine, opened.id, 1, params.ab_share, told, "test", "go")
    return rollout.current(engine), people, told


def come(people, opened, count, rates, **more):
    names = [f"p{n}" for n in range(count)]  # the first 400 were there before: CUPED knows them
    people.come(names, PARAMS.ab_share, rates, f"rollout-{opened.id}", ts=100, **more)


def decided(engine, opened):
    """As a controller does: a look is noted before anything is done about it."""
    verdict = trial(engine, opened, REWARD)
    if verdict.figures["look"]:
        rollout.note_look(engine, opened.id, "c", verdict.told, verdict.figures)
    return verdict


def test_the_sample_follows_from_the_smallest_lift_worth_having(engine):
    opened, _, told = begun(engine)
    share = (0.6 - 0.2) / 0.8
    same = plan(Assumptions(told["mean"], told["sd"], 100, share, 0.05, 0.8, 5), 0.15)
    assert told["people"] == same.people > 100
    assert told["mean"] == pytest.approx(0.4, abs=0.05)
    step = rollout.step_of(engine, opened.id)
    assert (step.plan["people"], step.share, step.before) == (told["people"], 0.6, 0.2)
    assert progress(engine, opened.id) == 0


@pytest.mark.parametrize(
    ("rates", "outcome", "en", "ko"),
    [
        ((0.4, 0.6), "pass", "'challenger' wins: reward per request changes by +", "'challenger' 승리"),
        ((0.4, 0.2), "fail", "'challenger' loses", "'challenger' 패배"),
        ((0.4, 0.4), "fail", "No difference worth having", "의미 있는 차이 없음"),
    ],
)
def test_a_full_sample_decides_in_a_sentence(engine, rates, outcome, en, ko):
    opened, people, told = begun(engine)
    come(people, opened, round(told["people"] / 0.8 * 1.05), rates)
    verdict = decided(engine, opened)
    assert (verdict.outcome, verdict.why.startswith(en)) == (outcome, True), verdict.why
    assert verdict.figures["ko"].startswith(ko)
    assert progress(engine, opened.id) == verdict.figures["people"] >= told["people"]
    again = decided(engine, opened)
    assert (again.outcome, again.figures["look"]) == (outcome, None), "what a look said cannot be unsaid"


def test_who_had_the_challenger_before_is_not_compared(engine):
    opened, people, _ = begun(engine)
    come(people, opened, 300, (0.4, 0.4))
    salt = f"rollout-{opened.id}"
    new = [place(f"p{n}", salt) for n in range(300) if place(f"p{n}", salt) >= 0.2]
    figures = trial(engine, opened, REWARD).figures
    assert (figures["people_challenger"], figures["people_champion"]) == (
        sum(x < 0.6 for x in new),
        sum(x >= 0.6 for x in new),
    )


def test_it_is_too_early_without_people_and_between_looks(engine):
    opened, people, told = begun(engine)
    verdict = trial(engine, opened, REWARD)
    assert (verdict.outcome, verdict.figures["people"], verdict.figures["look"]) == ("no-data", 0, None)
    come(people, opened, round(told["people"] / 0.8 * 0.25), (0.4, 0.42))
    first = decided(engine, opened)
    assert (first.outcome, first.figures["look"]["fraction"]) == ("no-data", pytest.approx(0.25, abs=0.08))
    assert "Keep going until" in first.why
    assert decided(engine, opened).figures["look"] is None, "a look is taken once"


def test_arms_of_wrong_size_block_every_verdict(engine):
    opened, people, told = begun(engine)
    come(people, opened, told["people"] * 2, (0.4, 0.7), lost=0.4)
    verdict = decided(engine, opened)
    assert (verdict.outcome, verdict.figures["look"]) == ("no-data", None)
    assert "arms are not as large as they should be" in verdict.why


def test_a_guardrail_that_gets_worse_refuses_a_winner(engine):
    opened, people, told = begun(engine)
    come(people, opened, told["people"] * 2, (0.4, 0.7), dismiss=(0.02, 0.2))
    verdict = decided(engine, opened)
    assert (verdict.outcome, verdict.figures["hurt"]) == ("fail", ["dismissals_per_request"])
    assert "dismissals per request got worse" in verdict.why


def test_failures_and_slowness_end_it_as_they_end_a_canary(engine):
    opened, people, told = begun(engine)
    come(people, opened, told["people"], (0.4, 0.2))
    assert canary(engine, opened, PARAMS, REWARD, WELL).outcome == "pass", "rewards are the test's"
    slow = type(WELL)(asked=200, failed=0, p99_ms=900.0)
    assert "within 900 ms" in canary(engine, opened, PARAMS, REWARD, slow).why


def test_nobody_to_plan_by_is_an_error_that_says_so(engine):
    with pytest.raises(ValueError, match="0 people came"):
        planned(engine, PARAMS, REWARD)
    with pytest.raises(ValueError, match="no metric"):
        planned(engine, PARAMS.model_copy(update={"ab_metric": "joy"}), REWARD)

"""Intervals: known cases, bounds that always hold, coverage; and the choice of an estimator."""

import numpy as np
import pytest
import torch
from scipy import stats

from recloop.evaluation.off_policy import (
    SEQUENCE_ESTIMATORS,
    Log,
    bootstrap,
    choose,
    clustered_bernstein,
    diagnose,
    empirical_bernstein,
    estimates,
    slope,
)
from recloop.evaluation.off_policy.estimate import Answer
from recloop.evaluation.off_policy.intervals import GROUPS, by_person
from recloop.market import GroundTruth
from recloop.policy import draw, propensities
from recloop.settings.params import MarketParams, RewardParams


def test_a_person_s_value_has_the_mean_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    rows, person = rng.random((500, 2)), rng.integers(0, 40, 500) * 3
    values = by_person(rows, person)
    assert values.shape == (len(np.unique(person)), 2)
    np.testing.assert_allclose(values.mean(0), rows.mean(0), rtol=1e-12)
    own = by_person(rows, np.arange(500))
    np.testing.assert_allclose(own, rows, rtol=1e-12)


@pytest.mark.parametrize("kind", ["studentised", "percentile"])
def test_of_normal_values_the_interval_is_the_textbook_s(kind: str) -> None:
    values = np.random.default_rng(1).normal(3, 2, (400, 1))
    low, high = bootstrap(values, 4000, 0, kind)  # type: ignore[arg-type]
    expected = stats.t.interval(0.95, 399, values.mean(), stats.sem(values[:, 0]))
    assert (low[0], high[0]) == pytest.approx(expected, abs=0.02)


def test_more_people_than_groups_give_the_same_interval() -> None:
    values = np.random.default_rng(2).exponential(1, (20 * GROUPS, 1))
    low, high = bootstrap(values, 2000, 0)
    assert high[0] - low[0] == pytest.approx(3.92 * stats.sem(values[:, 0]), rel=0.06)
    assert low[0] < values.mean() < high[0]


def test_constant_values_have_no_width_and_one_person_has_no_end() -> None:
    low, high = bootstrap(np.full((30, 1), 2.5), 100, 0)
    assert (low[0], high[0]) == (2.5, 2.5)
    low, high = bootstrap(np.array([[1.0]]), 100, 0)
    assert (low[0], high[0]) == (-np.inf, np.inf)


def test_the_studentised_interval_leans_towards_the_long_tail() -> None:
    values = np.random.default_rng(3).lognormal(0, 1.2, (150, 1))
    mean = values.mean()
    (low,), (high,) = bootstrap(values, 4000, 0)
    (flat,), (top,) = bootstrap(values, 4000, 0, "percentile")
    assert high - mean > 1.2 * (mean - low)
    assert high > top
    assert low > flat - 0.2


def test_the_empirical_bernstein_bound_by_hand() -> None:
    values = np.array([0.0, 1.0] * 50)
    half = np.sqrt(2 * (25 / 99) * np.log(80) / 100) + 7 * np.log(80) / (3 * 99)
    assert empirical_bernstein(values, 0, 1) == pytest.approx((0.5 - half, 0.5 + half))
    assert empirical_bernstein(values[:1], 0, 1) == (0, 1)
    with pytest.raises(ValueError, match="values reach from 0 to 1, beyond"):
        empirical_bernstein(values, 0, 0.5)


def test_the_bound_holds_where_the_bootstrap_cannot_know() -> None:
    """Rare large values: most samples of 60 hold none, and then the bootstrap is sure of 0."""
    rng, chance, times = np.random.default_rng(4), 0.01, 400
    bound = sure = 0
    for seed in range(times):
        values = (rng.random(60) < chance).astype(float)
        low, high = empirical_bernstein(values, 0, 1)
        bound += low <= chance <= high
        lows, highs = bootstrap(values[:, None], 200, seed)
        sure += lows[0] <= chance <= highs[0]
    assert bound / times >= 0.95
    assert sure / times < 0.75


def test_the_clustered_bound_holds_for_people_of_different_length() -> None:
    rng, times, held, widths = np.random.default_rng(5), 200, 0, []
    for _ in range(times):
        rows = rng.integers(1, 5, 2000)
        person = np.repeat(np.arange(2000), rows)
        level = np.repeat(rng.random(2000) < 0.5, rows)  # all of a person's rows are alike
        low, high = clustered_bernstein(level * 0.8, person, 0, 1, 4)
        held += low <= 0.4 <= high
        widths.append(high - low)
    assert held / times >= 0.95
    assert np.mean(widths) < 0.2
    with pytest.raises(ValueError, match="values reach from 2 to 4, beyond 0 to 3"):
        clustered_bernstein(np.ones(6), np.array([0, 0, 0, 0, 1, 1]), 0, 1, 3)


def test_slope_by_hand() -> None:
    assert slope([1.0, 1.1, 1.3], [0.4, 0.2, 0.1]) == 2  # all share [1.1, 1.5]
    assert slope([1.0, 1.1, 2.5], [0.4, 0.2, 0.1]) == 1  # the third is too far away
    assert slope([1.0, 3.0, 1.0], [0.4, 0.2, 0.1]) == 0  # nothing after the first break counts
    assert slope([1.0, 5.0, 1.1], [0.4, 0.5, 0.1]) == 2  # a noisier one is passed over
    assert slope([1.0], [0.4]) == 0


def test_the_choice_falls_on_the_model_only_where_it_is_right() -> None:
    rng = np.random.default_rng(6)
    rows = 4000
    ratio = rng.lognormal(-0.5, 1, (rows, 1))
    mean = 0.3 + 0.1 * np.tanh(np.log(ratio))
    reward = (rng.random((rows, 1)) < mean).astype(float)
    target = float((mean * ratio).mean())  # E[w r] by the rows' own means
    for shift, name in ((0.0, "dm"), (0.4, "dr")):
        log = Log.of(ratio, reward, predicted=mean + shift, direct=np.full(rows, target + shift))
        found = choose(log, 100, 500, 0)
        assert found.estimator.startswith(name)
        assert found.why
        assert found.value is not None
        assert found.low is not None
        assert found.high is not None
        assert abs(found.value - target) < 0.06
        assert found.low <= found.value <= found.high
        assert found.low <= target <= found.high


def test_the_choice_is_clipped_only_where_that_changes_nothing() -> None:
    rng = np.random.default_rng(7)
    ratio = rng.lognormal(-1.1, 1.5, (20_000, 1))
    ratio /= ratio.mean()
    flat = choose(Log.of(ratio, np.ones(ratio.shape)), 50, 100, 0)
    assert flat.value == pytest.approx(1)
    steep = choose(Log.of(ratio, (ratio > 5).astype(float)), 50, 100, 0)
    assert "clipped_snips 10 no longer does" in steep.why
    assert steep.low is not None
    assert steep.high is not None
    assert steep.low <= (ratio * (ratio > 5)).mean() <= steep.high


ITEMS, SLATE, HORIZON, PEOPLE, TIMES, SPREAD = 20, 2, 3, 300, 500, 2.0


def browse(
    market: GroundTruth, logging: np.ndarray, target: np.ndarray, people: int
) -> dict[str, np.ndarray]:
    """Sessions under the logging scores; and what the target's slates would have earned there."""
    rng, alive = np.random.default_rng(0), np.ones(people, bool)
    market.seed(0)
    market.reset(people)
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("person", "ts", "ratio", "reward", "predicted", "direct", "would")
    }
    for t in range(HORIZON):
        here = np.flatnonzero(alive)
        drawn, anew = (draw(s.repeat(people, 0), SLATE, rng, SPREAD, 0.3).items for s in (logging, target))
        chances = [propensities(s.repeat(people, 0), drawn, SPREAD, 0.3) for s in (target, logging)]
        would = expected(market, torch.from_numpy(anew))
        outcome = market.step(torch.from_numpy(drawn))
        reward = np.zeros(drawn.shape)
        place = outcome.clicked.numpy()
        reward[np.arange(people), place] = outcome.reward.numpy()
        parts["person"].append(here)
        parts["ts"].append(np.full(len(here), t))
        parts["ratio"].append((chances[0] / chances[1])[here])
        parts["reward"].append((reward * (place >= 0)[:, None])[here])
        guess = 0.1 + 0.02 * (np.arange(ITEMS) % 3)  # a poor model
        parts["predicted"].append(guess[drawn][here])
        parts["direct"].append(guess[anew].sum(1)[here])
        parts["would"].append(would[here])
        alive &= ~outcome.done.numpy()
    order = np.argsort(np.concatenate(parts["person"]), kind="stable")
    return {name: np.concatenate(values)[order] for name, values in parts.items()}


def expected(market: GroundTruth, slates: torch.Tensor) -> np.ndarray:
    """float (B,): the mean reward of these slates, from the market's own choice probabilities."""
    utilities = market.utilities(slates)
    choice = torch.cat([torch.zeros_like(utilities[:, :1]), utilities], 1).softmax(1)[:, 1:]
    bought = torch.stack([market.purchase_logit(slates[:, j]).sigmoid() for j in range(SLATE)], 1)
    return (choice * (market.reward.click + market.reward.purchase * bought)).sum(1).numpy()


@pytest.mark.slow
def test_intervals_cover_the_generated_market_s_truth() -> None:
    """500 logs of 300 people each: at least 93 % of the 95 % intervals hold what was to be estimated."""
    market = GroundTruth(
        MarketParams(
            users=2000, items=ITEMS, topics=4, horizon=HORIZON, slate=SLATE, behaviour_temperature=1.0
        ),
        RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4), 3,
    )  # fmt: skip
    rng = np.random.default_rng(8)
    logging = rng.normal(0, 1, (1, ITEMS))
    target = 0.5 * logging + rng.normal(0, 1, (1, ITEMS))
    rows = browse(market, logging, target, PEOPLE * TIMES)
    per_request = float(rows["would"].mean())
    rewards = browse(market, target, target, PEOPLE * TIMES)["reward"]
    per_session = float(rewards.sum() / (PEOPLE * TIMES))
    questions = {
        **{name: (name, "slate") for name in ("ips", "snips", "dr", "sndr")},
        **{name: (name, "session") for name in SEQUENCE_ESTIMATORS},
    }
    names = [*questions, "chosen"]
    covered = dict.fromkeys(names, 0)
    for time in range(TIMES):
        mine = slice(*np.searchsorted(rows["person"], [time * PEOPLE, (time + 1) * PEOPLE]))
        part = {name: x[mine] for name, x in rows.items()}
        log = Log.of(
            part["ratio"], part["reward"], person=part["person"], session=part["person"], ts=part["ts"],
            predicted=part["predicted"], direct=part["direct"],
        )  # fmt: skip
        sound = diagnose(log)
        found = estimates(log, questions, 50, 300, time, sound)  # type: ignore[arg-type]
        found["chosen"] = choose(log, 50, 300, time, sound)
        for name, figure in found.items():
            assert figure.low is not None, figure.why
            assert figure.high is not None
            truth = per_session if name in questions and questions[name][1] == "session" else per_request
            covered[name] += figure.low <= truth <= figure.high
    assert min(covered.values()) >= 0.93 * TIMES, covered


def test_what_an_answer_rests_on() -> None:
    answer = Answer(np.zeros(3), np.arange(3), np.array([[2.0], [1.0], [1.0]]), np.ones((3, 1), bool))
    assert answer.support()["effective_sample"] == pytest.approx(16 / 6)
    assert answer.support()["mean_weight"] == pytest.approx(4 / 3)

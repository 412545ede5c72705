"""Off-policy estimates: closed forms, a known bandit, coverage of the intervals, and a public log."""

import csv
from pathlib import Path

import numpy as np
import pytest

from recloop.evaluation import Log, estimate, read_log
from recloop.evaluation.off_policy import CLIP, ESTIMATORS, Weighting, bootstrap
from recloop.evaluation.off_policy.estimate import weighed
from recloop.evaluation.off_policy.estimators import dr_optimistic, dr_pessimistic, switch_dr
from recloop.evaluation.off_policy.intervals import by_person
from recloop.features import Steps
from recloop.policy import Sampler, draw, uniform

DATASET = Path(__file__).parents[3] / "shared" / "datasets" / "open-bandit-small"


def log(ratio: list, reward: list, person: list | None = None, real: list | None = None) -> Log:
    return Log.of(
        np.array(ratio, float),
        np.array(reward, float),
        person=None if person is None else np.array(person),
        real=None if real is None else np.array(real),
    )


def value(view: Log, method: str, weighting: Weighting) -> float:
    """The bare estimate, without any question whether the log supports it."""
    return float(ESTIMATORS[method](weighed(view, weighting)).mean())


TWO = log([[2.0, 0.5], [0.5, 1.0]], [[1.0, 2.0], [3.0, 0.0]])
CLOSED: dict[tuple[str, Weighting], float] = {
    ("ips", "slate"): (1 * (1 + 2) + 0.5 * 3) / 2,
    ("ips", "prefix"): ((2 * 1 + 1 * 2) + 0.5 * 3) / 2,
    ("ips", "position"): ((2 * 1 + 0.5 * 2) + 0.5 * 3) / 2,
    ("snips", "slate"): (1 * 1 + 0.5 * 3) / 1.5 + 2 / 1.5,
    ("snips", "prefix"): (2 * 1 + 0.5 * 3) / 2.5 + 2 / 1.5,
    ("snips", "position"): (2 * 1 + 0.5 * 3) / 2.5 + 0.5 * 2 / 1.5,
}


@pytest.mark.parametrize(("method", "weighting"), CLOSED)
def test_two_requests_by_hand(method: str, weighting: Weighting) -> None:
    assert value(TWO, method, weighting) == pytest.approx(CLOSED[method, weighting], rel=1e-12)


def test_clipping_bounds_each_weight() -> None:
    wide = log([[3 * CLIP], [1.0]], [[1.0], [1.0]])
    assert value(wide, "clipped", "slate") == pytest.approx((CLIP + 1) / 2)
    assert value(wide, "ips", "slate") == pytest.approx((3 * CLIP + 1) / 2)


MODELLED = Log.of(
    np.array([[2.0], [0.5]]), np.array([[1.0], [3.0]]),
    predicted=np.array([[0.5], [2.0]]), direct=np.array([0.7, 1.1]),
)  # fmt: skip


def test_what_uses_a_model_by_hand() -> None:
    assert value(MODELLED, "dm", "slate") == pytest.approx((0.7 + 1.1) / 2)
    assert value(MODELLED, "dr", "slate") == pytest.approx(0.9 + (2 * 0.5 + 0.5 * 1) / 2)
    assert value(MODELLED, "sndr", "slate") == pytest.approx(0.9 + (2 * 0.5 + 0.5 * 1) / 2.5)
    view = weighed(MODELLED, "slate")
    assert switch_dr(view, 1).mean() == pytest.approx(0.9 + 0.5 * 1 / 2)
    shrunk = 3 * 2 / (4 + 3) * 0.5 + 3 * 0.5 / (0.25 + 3) * 1
    assert dr_optimistic(view, 3).mean() == pytest.approx(0.9 + shrunk / 2)
    assert dr_pessimistic(view, 1).mean() == pytest.approx(0.9 + (1 * 0.5 + 0.5 * 1) / 2)
    assert value(MODELLED, "ips", "slate") == pytest.approx((2 + 1.5) / 2)


def test_slates_of_different_length() -> None:
    """The second request has one position; self-normalising counts only requests that have a position."""
    mixed = log([[2.0, 0.5], [0.5, 1.0]], [[1.0, 2.0], [3.0, 0.0]], real=[[True, True], [True, False]])
    assert value(mixed, "snips", "prefix") == pytest.approx((2 * 1 + 0.5 * 3) / 2.5 + 2 / 2)
    assert value(mixed, "ips", "prefix") == pytest.approx((2 + 2 + 1.5) / 2)


def test_the_same_policy_is_worth_what_the_log_says() -> None:
    rng = np.random.default_rng(0)
    reward = rng.random((300, 3))
    same = log(np.ones((300, 3)).tolist(), reward.tolist())
    for method in ("ips", "snips", "clipped", "dr", "sndr"):
        found = estimate(same, method, "slate", 100, 50, 0)
        assert found.value == pytest.approx(reward.sum(1).mean(), rel=1e-12)
        assert found.effective_sample == pytest.approx(300)
        assert found.mean_weight == pytest.approx(1)


def test_too_little_support_gives_a_reason_and_no_number() -> None:
    lonely = log([[1000.0]] + [[0.001]] * 99, [[1.0]] * 100)
    found = estimate(lonely, "snips", "slate", 50, 10, 0)
    assert found.outcome == "no-data"
    assert found.value is None
    assert "100 logged requests count for 1 of this policy" in found.why
    assert estimate(lonely, "snips", "slate", 0.5, 10, 0).outcome == "ok"


def test_no_propensities_give_a_reason_and_no_number() -> None:
    steps = bandit_steps(np.zeros((5, 1), np.int64), np.full((5, 1), np.nan), np.zeros(5))
    found = estimate(read_log(steps, uniform(3), None, 3, 0), "snips", "slate", 1, 10, 0)
    assert found.outcome == "no-data"
    assert "no request in the log has propensities" in found.why


def test_a_policy_that_never_shows_what_was_logged_has_no_data() -> None:
    elsewhere = log([[0.0]] * 50, [[1.0]] * 50)
    assert estimate(elsewhere, "snips", "slate", 10, 10, 0).outcome == "no-data"


def bandit_steps(slate: np.ndarray, propensity: np.ndarray, reward: np.ndarray, user=None) -> Steps:  # type: ignore[no-untyped-def]
    rows = len(slate)
    return Steps(
        user=np.arange(rows) if user is None else user,
        session=np.arange(rows),
        ts=np.arange(rows),
        profile=np.zeros((rows, 1), np.float32),
        context=np.zeros((rows, 1), np.float32),
        history=np.zeros((rows, 1), np.int64),
        slate=slate,
        propensity=propensity,
        position=np.tile(np.arange(slate.shape[1]), (rows, 1)),
        clicked=np.where(reward > 0, 0, -1),
        reward=reward.astype(np.float32),
        done=np.ones(rows, bool),
    )


def test_requests_without_propensities_are_left_out_and_padding_is_not() -> None:
    slate = np.array([[0, 1], [2, 3], [1, 0]])
    propensity = np.array([[1 / 3, 1 / 2], [1 / 3, np.nan], [1 / 3, np.nan]])
    found = read_log(bandit_steps(slate, propensity, np.array([1.0, 1.0, 1.0])), uniform(3), None, 3, 0)
    assert found.person.tolist() == [0, 1]  # item 3 is padding; the third request lacks a propensity
    np.testing.assert_allclose(found.ratio, 1)
    assert found.real.tolist() == [[True, True], [True, False]]


def test_a_reward_without_a_click_waits_for_the_whole_slate() -> None:
    steps = bandit_steps(np.array([[0, 1, 3]]), np.array([[0.5, 0.5, np.nan]]), np.array([-0.5]))
    assert read_log(steps, uniform(3), None, 3, 0).reward.tolist() == [[0, -0.5, 0]]


MEANS = np.array([0.1, 0.5, 0.3, 0.8, 0.2])
LOGGING = (np.array([2.0, 1.0, 0.5, 0.0, 1.0]), 1.0, 0.2)
TARGET = (np.array([0.0, 1.0, 0.5, 2.0, 0.0]), 1.0, 0.1)


def scores_of(values: np.ndarray, rows: int) -> np.ndarray:
    return np.tile(values, (rows, 1)).astype(np.float32)


def cascade(rows: int, rng: np.random.Generator) -> tuple[Steps, Sampler]:
    """People read from the top and click the first item that they like: one of the first two positions."""
    scores, t, e = LOGGING
    drawn = draw(scores_of(scores, rows), 2, rng, t, e)
    likes = rng.random((rows, 2)) < MEANS[drawn.items]
    clicked = np.where(likes.any(1), likes.argmax(1), -1)
    steps = bandit_steps(drawn.items, drawn.propensities, np.zeros(rows))
    steps = Steps(**{**vars(steps), "clicked": clicked, "reward": (clicked >= 0).astype(np.float32)})
    return steps, Sampler(lambda o: scores_of(TARGET[0], len(o["profile"])), *TARGET[1:])


def cascade_value() -> float:
    """The target's click rate, over all ordered pairs."""
    total = 0.0
    pairs = np.array([(i, j) for i in range(5) for j in range(5) if i != j])
    sampler = Sampler(lambda o: scores_of(TARGET[0], len(o["profile"])), *TARGET[1:])
    chances = sampler.propensities({"profile": np.zeros((len(pairs), 1))}, pairs).prod(1)
    for (i, j), chance in zip(pairs, chances, strict=True):
        total += chance * (1 - (1 - MEANS[i]) * (1 - MEANS[j]))
    return total


@pytest.mark.parametrize("weighting", ["slate", "prefix"])
@pytest.mark.parametrize("method", ["ips", "snips", "dr", "sndr"])
def test_estimates_find_the_value_of_a_known_policy(method: str, weighting: Weighting) -> None:
    steps, target = cascade(40_000, np.random.default_rng(4))
    found = estimate(read_log(steps, target, None, 5, 0), method, weighting, 200, 200, 0)
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    assert abs(found.value - cascade_value()) < 4 * (found.high - found.low) / 3.92
    assert found.high - found.low < 0.1
    assert abs(float(steps.reward.mean()) - cascade_value()) > 0.1  # the log itself says something else


def test_prefixes_need_less_than_slates() -> None:
    steps, target = cascade(20_000, np.random.default_rng(5))
    read = read_log(steps, target, None, 5, 0)
    prefix, slate = (estimate(read, "ips", w, 1, 200, 0) for w in ("prefix", "slate"))  # type: ignore[arg-type]
    assert prefix.effective_sample > slate.effective_sample


@pytest.mark.parametrize("method", ["ips", "snips"])
def test_the_intervals_cover_the_truth_as_often_as_they_say(method: str) -> None:
    truth, covered, times = cascade_value(), 0, 200
    for seed in range(times):
        steps, target = cascade(800, np.random.default_rng([13, seed]))
        found = estimate(read_log(steps, target, None, 5, seed), method, "prefix", 50, 300, seed)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= truth <= found.high
    assert 0.90 <= covered / times <= 0.985


def test_people_not_requests_are_resampled() -> None:
    """Twenty people whose requests are all alike: as wide as twenty requests, not as two thousand."""
    rng = np.random.default_rng(0)
    level = rng.random(20)
    person = np.repeat(np.arange(20), 100)
    clustered = log(np.ones((2000, 1)).tolist(), level[person][:, None].tolist(), person.tolist())
    single = log(np.ones((20, 1)).tolist(), level[:, None].tolist())
    wide, same = (estimate(x, "snips", "slate", 1, 2000, 0) for x in (clustered, single))
    assert wide.high is not None
    assert wide.low is not None
    assert same.high is not None
    assert same.low is not None
    assert wide.high - wide.low == pytest.approx(same.high - same.low, rel=0.02)
    assert wide.high - wide.low == pytest.approx(3.92 * level.std() / 20**0.5, rel=0.15)


def test_the_value_of_random_on_the_open_bandit_log_of_thompson_sampling() -> None:
    file = DATASET / "bts" / "men" / "men.csv"
    if not file.exists():
        pytest.skip(f"the Open Bandit dataset is not at {file}")
    with file.open() as opened:
        rows = list(csv.DictReader(opened))
    slate = np.array([[int(row["item_id"])] for row in rows])
    propensity = np.array([[float(row["propensity_score"])] for row in rows])
    reward = np.array([float(row["click"]) for row in rows])
    read = read_log(bandit_steps(slate, propensity, reward), uniform(34), None, 34, 0)
    ips = estimate(read, "ips", "position", 200, 2000, 0)
    snips = estimate(read, "snips", "position", 200, 2000, 0)
    assert ips.value == pytest.approx(0.00301, abs=5e-6)
    assert snips.value == pytest.approx(0.00319, abs=5e-6)
    assert ips.effective_sample == pytest.approx(656, abs=1)
    assert ips.low is not None
    assert ips.high is not None
    view = weighed(read, "position")
    rows = by_person(ESTIMATORS["ips"](view)[:, None], read.person)
    (low,), (high,) = bootstrap(rows, 2000, 0, "percentile")
    assert (high - low) / 3.92 == pytest.approx(0.00077, rel=0.1)
    assert ips.high - ips.value > ips.value - ips.low  # few clicks with large weights: skewed
    with (DATASET / "random" / "men" / "men.csv").open() as opened:
        random_rate = np.mean([float(row["click"]) for row in csv.DictReader(opened)])
    assert snips.high is not None
    assert ips.low <= random_rate
    assert random_rate <= snips.high + 0.001

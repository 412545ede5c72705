"""Expectations of estimators over everything that can happen, against the value that they estimate."""

from collections.abc import Callable
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.evaluation.off_policy import ESTIMATORS, SEQUENCE_ESTIMATORS, Log, Sequences, estimates, sessions
from recloop.evaluation.off_policy.estimate import weighed
from recloop.evaluation.off_policy.estimators import clipped, dm, dr, dr_optimistic, dr_pessimistic, ips
from recloop.evaluation.off_policy.estimators import switch_dr as switch
from recloop.evaluation.off_policy.sequence import dr_sequence, pdis, wdr, wpdis
from recloop.evaluation.off_policy.slate import (
    additive_weights,
    independent_weights,
    marginals,
    pseudo_inverse_weights,
    second_moments,
)
from recloop.policy import draw, propensities

N, K = 4, 2
SLATES = np.array(list(permutations(range(N), K)))
LOGGED = propensities(np.tile([1.0, 0.2, -0.5, 0.4], (len(SLATES), 1)), SLATES, 1.0, 0.2)
TARGET = propensities(np.tile([-1.0, 0.8, 0.5, 0.1], (len(SLATES), 1)), SLATES, 1.0, 0.05)
CHANCE, WANTED = LOGGED.prod(1), TARGET.prod(1)
LIKING = np.array([[0.1, 0.7, 0.4, 0.3], [0.5, 0.2, 0.9, 0.6]])  # by position and item
OWN = LIKING[np.arange(K), SLATES]  # a position's reward depends on its item
CASCADE = np.stack([OWN[:, 0], OWN[:, 1] * (1 - OWN[:, 0])], 1)  # and on those above
WHOLE = np.stack([OWN[:, 0] * (1 - OWN[:, 1] / 3), OWN[:, 1] / (1 + OWN[:, 0])], 1)  # and on all
WRONG = np.array([0.9, 0.1, 0.3])  # a model that knows nothing


def every_slate(reward: np.ndarray) -> Log:
    """One row per slate that can be shown; a model's prediction that has nothing to do with the reward."""
    predicted = np.linspace(0, 1, reward.size).reshape(reward.shape)
    direct = np.full(len(reward), WANTED @ predicted.sum(1))
    return Log.of(TARGET / LOGGED, reward, predicted=predicted, direct=direct)


def test_the_chances_are_of_all_that_can_happen() -> None:
    assert CHANCE.sum() == pytest.approx(1, abs=1e-12)
    assert WANTED.sum() == pytest.approx(1, abs=1e-12)
    assert abs(CHANCE @ WHOLE.sum(1) - WANTED @ WHOLE.sum(1)) > 0.05  # the log itself says something else


@pytest.mark.parametrize("estimator", [ips, dr])
@pytest.mark.parametrize(
    ("weighting", "reward", "exact"),
    [
        ("slate", WHOLE, True),
        ("prefix", CASCADE, True),
        ("prefix", WHOLE, False),
        ("position", OWN, False),
    ],
    ids=["slate", "prefix", "prefix-beyond-its-assumption", "conditional-position"],
)
def test_unbiased_where_the_assumption_holds_and_only_there(
    estimator: Callable, weighting: str, reward: np.ndarray, exact: bool
) -> None:
    log = every_slate(reward)
    if estimator is dr and weighting == "prefix":  # what is predicted must meet the assumption too
        log = Log(**{**vars(log), "predicted": OWN / 2, "direct": np.full(len(OWN), WANTED @ OWN.sum(1) / 2)})
    expected = CHANCE @ estimator(weighed(log, weighting))  # type: ignore[arg-type]
    gap = abs(expected - WANTED @ reward.sum(1))
    assert gap < 1e-12 if exact else gap > 1e-4


def test_dr_is_right_with_wrong_weights_if_its_model_is_right() -> None:
    log = Log.of(
        np.full(LOGGED.shape, 0.7), WHOLE, predicted=WHOLE, direct=np.full(len(WHOLE), WANTED @ WHOLE.sum(1))
    )
    assert CHANCE @ dr(weighed(log, "slate")) == pytest.approx(WANTED @ WHOLE.sum(1), abs=1e-12)
    assert CHANCE @ ips(weighed(log, "slate")) != pytest.approx(WANTED @ WHOLE.sum(1), abs=1e-2)


def chance_at(slates: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """float (K, N): exact marginals."""
    return np.stack([np.bincount(slates[:, j], chances, N) for j in range(K)])


def test_item_position_weights_are_exact_for_independent_positions() -> None:
    weights = independent_weights(chance_at(SLATES, WANTED), chance_at(SLATES, CHANCE), SLATES)
    assert CHANCE @ (weights * OWN).sum(1) == pytest.approx(WANTED @ OWN.sum(1), abs=1e-12)
    assert abs(CHANCE @ (weights * WHOLE).sum(1) - WANTED @ WHOLE.sum(1)) > 1e-3


def test_the_pseudo_inverse_is_exact_for_additive_rewards_logged_by_plackett_luce() -> None:
    moments = second_moments(SLATES, N, CHANCE)
    weights = pseudo_inverse_weights(chance_at(SLATES, WANTED), moments, SLATES)
    assert CHANCE @ (weights * OWN.sum(1)) == pytest.approx(WANTED @ OWN.sum(1), abs=1e-9)
    assert CHANCE @ weights == pytest.approx(1, abs=1e-9)
    slatewise = WANTED / CHANCE
    total = OWN.sum(1)
    assert CHANCE @ (weights * total) ** 2 < CHANCE @ (slatewise * total) ** 2  # less noise than the slate's
    assert abs(CHANCE @ (weights * WHOLE.prod(1)) - WANTED @ WHOLE.prod(1)) > 1e-4


def test_the_pseudo_inverse_has_a_closed_form_for_independent_positions() -> None:
    slates = np.array(list(product(range(N), repeat=K)))
    logged, target = np.array([[0.4, 0.3, 0.2, 0.1], [0.25] * 4]), np.array([[0.1, 0.2, 0.3, 0.4]] * 2)
    chance = logged[0, slates[:, 0]] * logged[1, slates[:, 1]]
    general = pseudo_inverse_weights(target, second_moments(slates, N, chance), slates)
    np.testing.assert_allclose(general, additive_weights(target, logged, slates), atol=1e-9)
    own = LIKING[np.arange(K), slates].sum(1)
    assert chance @ (general * own) == pytest.approx((target * LIKING).sum(), abs=1e-9)


def test_the_pseudo_inverse_refuses_what_was_never_logged() -> None:
    moments = second_moments(SLATES[SLATES[:, 0] != 2], N)
    with pytest.raises(ValueError, match="pairs of the target are never logged"):
        pseudo_inverse_weights(chance_at(SLATES, WANTED), moments, SLATES)


def test_marginals_and_moments_of_drawn_slates_come_near_the_exact_ones() -> None:
    scores = np.tile([1.0, 0.2, -0.5, 0.4], (60_000, 1))
    drawn = draw(scores, K, np.random.default_rng(0), 1.0, 0.2).items
    np.testing.assert_allclose(marginals(drawn, N), chance_at(SLATES, CHANCE), atol=0.01)
    np.testing.assert_allclose(second_moments(drawn, N), second_moments(SLATES, N, CHANCE), atol=0.01)
    near = pseudo_inverse_weights(chance_at(SLATES, WANTED), second_moments(drawn, N), SLATES)
    assert CHANCE @ (near * OWN.sum(1)) == pytest.approx(WANTED @ OWN.sum(1), abs=0.03)


# A world of two steps: what is shown first (0 or 1) decides whether the person stays for the second.
STAYS, FIRST, SECOND = np.array([0.9, 0.3]), np.array([0.2, 1.0]), np.array([[0.5, 2.0], [1.0, 0.1]])
SHOWS, WOULD = np.array([0.7, 0.3]), np.array([0.2, 0.8])


def every_session(q: np.ndarray) -> tuple[Sequences, np.ndarray]:
    """All that can happen, as rows, with its chance under the log; float (2,) q is a model's, by item."""
    rows, chances = [], []
    for a in (0, 1):
        rows.append(([FIRST[a], 0], [WOULD[a] / SHOWS[a], 1], [q[a], 0], [WOULD @ q, 0]))
        chances.append(SHOWS[a] * (1 - STAYS[a]))
        for b in (0, 1):
            ratio = [WOULD[a] / SHOWS[a], WOULD[b] / SHOWS[b]]
            rows.append(([FIRST[a], SECOND[a, b]], ratio, [q[a], q[b]], [WOULD @ q] * 2))
            chances.append(SHOWS[a] * STAYS[a] * SHOWS[b])
    reward, ratio, expected, v = (np.array(x, float) for x in zip(*rows, strict=True))
    return Sequences(reward, ratio, expected, v, np.arange(len(rows))), np.array(chances)


def session_value(discount: float) -> float:
    return float(WOULD @ (FIRST + discount * STAYS * (SECOND @ WOULD)))


@pytest.mark.parametrize("discount", [1.0, 0.6])
@pytest.mark.parametrize("estimator", [pdis, dr_sequence])
def test_sessions_are_estimated_without_bias(estimator: Callable, discount: float) -> None:
    all_sessions, chance = every_session(WRONG[:2])
    assert chance.sum() == pytest.approx(1)
    expected = chance @ estimator(all_sessions, discount)
    assert expected == pytest.approx(session_value(discount), abs=1e-12)
    assert chance @ all_sessions.reward.sum(1) != pytest.approx(session_value(1.0), abs=0.1)


@pytest.mark.parametrize("estimator", [wpdis, wdr])
def test_weighted_sessions_are_right_once_all_have_come_as_often_as_they_do(estimator: Callable) -> None:
    all_sessions, chance = every_session(WRONG[:2])
    times = np.round(chance * 10_000).astype(int)
    np.testing.assert_allclose(times, chance * 10_000, atol=1e-6)
    many = Sequences(**{name: np.repeat(x, times, 0) for name, x in vars(all_sessions).items()})
    assert estimator(many).mean() == pytest.approx(session_value(1.0), abs=1e-9)


def test_the_recursion_is_the_sum_that_it_unrolls_to() -> None:
    """Thomas and Brunskill 2016, eq. 3: the same estimator as a sum over steps."""
    rng = np.random.default_rng(0)
    x = Sequences(*rng.random((4, 20, 5)), person=np.arange(20))
    before = np.hstack([np.ones((20, 1)), x.weight[:, :-1]])
    power = 0.9 ** np.arange(5)
    unrolled = (power * (x.weight * (x.reward - x.q) + before * x.v)).sum(1)
    np.testing.assert_allclose(dr_sequence(x, 0.9), unrolled, rtol=1e-12)


def test_rows_become_sessions_in_their_order() -> None:
    log = Log.of(
        np.array([[2.0, 0.5], [3.0, 1.0], [0.5, 1.0]]), np.array([[1.0, 2.0], [4.0, 0.0], [0.0, 7.0]]),
        session=np.array([5, 3, 5]), person=np.array([1, 0, 1]),
        real=np.array([[True, True], [True, True], [True, True]]),
    )  # fmt: skip
    found = sessions(log)
    assert found.reward.tolist() == [[4, 0], [3, 7]]
    assert found.ratio.tolist() == [[3, 1], [1, 0.5]]
    assert found.person.tolist() == [0, 1]


floats = st.floats(0, 5)


@st.composite
def logs(draw: Callable) -> Log:
    rows, positions = draw(st.integers(2, 8)), draw(st.integers(1, 3))
    matrix = st.lists(floats, min_size=rows * positions, max_size=rows * positions)
    ratio, reward, predicted = (np.array(draw(matrix)).reshape(rows, positions) for _ in range(3))
    ratio += 0.01
    direct = np.array(draw(st.lists(floats, min_size=rows, max_size=rows)))
    return Log.of(ratio, reward, predicted=predicted, direct=direct, person=np.arange(rows) // 2)


@settings(max_examples=60, deadline=None)
@given(logs())
def test_properties_of_estimators(log: Log) -> None:
    view = weighed(log, "prefix")
    same = {"rtol": 1e-9, "atol": 1e-9}
    np.testing.assert_allclose(clipped(view, np.inf), ips(view), **same)
    np.testing.assert_allclose(switch(view, np.inf), dr(view), **same)
    np.testing.assert_allclose(switch(view, 0), dm(view), **same)
    for shrunk in (dr_optimistic, dr_pessimistic):
        np.testing.assert_allclose(shrunk(view, np.inf), dr(view), **same)
        np.testing.assert_allclose(shrunk(view, 0), dm(view), **same)
    np.testing.assert_allclose(dr_optimistic(view, 1e14), dr(view), rtol=1e-6, atol=1e-6)

    def changed(**fields: np.ndarray) -> Log:
        return Log(**{**vars(log), **fields})

    constant = changed(reward=np.full(log.reward.shape, 3.0), predicted=np.zeros(log.reward.shape))
    found = ESTIMATORS["snips"](weighed(constant, "slate")).mean()
    assert found == pytest.approx(3.0 * log.reward.shape[1], rel=1e-9)
    none = np.zeros(log.ratio.shape)
    flat = Sequences(none + 3.0, log.ratio, none, none, log.person)
    assert wpdis(flat).mean() == pytest.approx(3.0 * log.reward.shape[1], rel=1e-9)
    alike = changed(ratio=np.ones(log.ratio.shape))
    for name in ("ips", "snips", "clipped"):
        found = ESTIMATORS[name](weighed(alike, "slate")).mean()
        assert found == pytest.approx(log.reward.sum(1).mean(), rel=1e-9, abs=1e-9)
    order = np.random.default_rng(0).permutation(len(log.person))
    moved = {name: x[order] for name, x in vars(log).items() if isinstance(x, np.ndarray)}
    twice = changed(reward=2 * log.reward, predicted=2 * log.predicted, direct=2 * log.direct)
    for name, estimator in ESTIMATORS.items():
        value = estimator(view).mean()
        close = {"rel": 1e-9, "abs": 1e-9}
        assert estimator(weighed(changed(**moved), "prefix")).mean() == pytest.approx(value, **close), name
        assert estimator(weighed(twice, "prefix")).mean() == pytest.approx(2 * value, **close), name
    renamed = changed(session=np.arange(len(order))[::-1].copy(), person=log.person + 7)
    for name, of_session in SEQUENCE_ESTIMATORS.items():
        value = of_session(sessions(log)).mean()
        assert of_session(sessions(renamed)).mean() == pytest.approx(value, rel=1e-9, abs=1e-9), name


def test_all_estimates_of_one_call_are_what_each_alone_gives() -> None:
    rng = np.random.default_rng(1)
    log = Log.of(rng.lognormal(-0.02, 0.2, (400, 2)), rng.random((400, 2)), person=np.arange(400) // 4)
    questions = {"a": ("ips", "slate"), "b": ("snips", "prefix"), "c": ("wpdis", "session")}
    for name, question in questions.items():
        alone, found = (estimates(log, asked, 1, 200, 0)[name] for asked in ({name: question}, questions))  # type: ignore[arg-type]
        assert (alone.value, alone.low, alone.high) == pytest.approx((found.value, found.low, found.high))
        assert found.outcome == "ok"

"""Drawing slates: the propensity of a pick is the probability with which it is picked."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from recloop.policy import draw, most_popular, propensities, uniform


def naive(scores: np.ndarray, slate: tuple[int, ...], t: float, e: float) -> list[float]:
    """The definition, one item at a time, for one row without exclusions."""
    z = (scores - scores.mean()) / (scores.std() or 1)
    left = list(range(len(scores)))
    found = []
    for item in slate:
        weights = np.exp((z[left] - z[left].max()) / t)
        found.append((1 - e) * weights[left.index(item)] / weights.sum() + e / len(left))
        left.remove(item)
    return found


@pytest.mark.parametrize("exploration", [0.0, 0.3, 1.0])
def test_the_propensities_are_those_of_the_definition(exploration: float) -> None:
    scores = np.array([0.3, -1.0, 2.0, 0.1, 0.9])
    slates = np.array(list(itertools.permutations(range(5), 3)))
    found = propensities(np.tile(scores, (len(slates), 1)), slates, 0.7, exploration)
    expected = [naive(scores, tuple(slate), 0.7, exploration) for slate in slates]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.prod(1).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("exploration", [0.0, 0.4])
def test_slates_come_as_often_as_their_propensities_say(exploration: float) -> None:
    scores = np.array([0.3, -1.0, 2.0, 0.1])
    orders = list(itertools.permutations(range(4), 3))
    times = 60_000
    rng = np.random.default_rng(11)
    drawn = draw(np.tile(scores, (times, 1)), 3, rng, 1.0, exploration)
    seen = np.array([(drawn.items == order).all(1).sum() for order in orders])
    expected = np.array([np.prod(naive(scores, order, 1.0, exploration)) for order in orders])
    assert stats.chisquare(seen, expected * times).pvalue > 1e-3
    marginal = np.bincount(drawn.items[:, 2], minlength=4)
    later = [sum(p for o, p in zip(orders, expected, strict=True) if o[2] == i) for i in range(4)]
    assert stats.chisquare(marginal, np.array(later) * times).pvalue > 1e-3


def test_what_is_drawn_carries_the_propensity_that_is_computed_for_it() -> None:
    rng = np.random.default_rng(3)
    scores = rng.standard_normal((40, 30)).astype(np.float32)
    excluded = rng.random((40, 30)) < 0.3
    drawn = draw(scores, 6, rng, 0.2, 0.1, excluded)
    np.testing.assert_array_equal(propensities(scores, drawn.items, 0.2, 0.1, excluded), drawn.propensities)
    np.testing.assert_array_equal(np.take_along_axis(scores, drawn.items, 1), drawn.scores)
    assert not np.take_along_axis(excluded, drawn.items, 1).any()


def test_a_dominant_item_leaves_the_others_exact_propensities() -> None:
    """Subtracting its weight from the total would leave rounding: e^-60 beside 1."""
    scores = np.append(np.linspace(0, 0.1, 49), 40.0)
    slate = np.array([[49, 3, 7]])
    found = propensities(scores[None], slate, 0.1, 0.0)
    z = (scores - scores.mean()) / scores.std() / 0.1
    rest = z[:49] - z[:49].max()
    weights = np.exp(rest)
    assert found[0, 1] == pytest.approx(weights[3] / weights.sum(), rel=1e-9)
    assert found[0, 2] == pytest.approx(weights[7] / (weights.sum() - weights[3]), rel=1e-9)


SCORES = st.integers(1, 8).flatmap(
    lambda n: arrays(np.float64, (3, n), elements=st.floats(allow_nan=False, allow_infinity=False))
)


@settings(deadline=None, max_examples=150)
@given(scores=SCORES, k=st.integers(1, 12), exploration=st.floats(0, 1), seed=st.integers(0, 9))
def test_any_finite_scores_give_a_slate_of_different_items(
    scores: np.ndarray, k: int, exploration: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    excluded = rng.random(scores.shape) < 0.4
    excluded[:, 0] = False
    with np.errstate(over="ignore"):  # the scores themselves may not fit into float32
        drawn = draw(scores, k, rng, 0.1, exploration, excluded)
    assert drawn.items.shape == (3, min(k, (~excluded).sum(1).min()))
    assert all(len(set(row)) == len(row) for row in drawn.items.tolist())
    assert (drawn.propensities > 0).all()
    assert (drawn.propensities <= 1).all()
    first = np.stack([propensities(scores, np.full((3, 1), i), 0.1, exploration, excluded)[:, 0]
                      for i in range(scores.shape[1])], 1)  # fmt: skip
    np.testing.assert_allclose(first.sum(1), 1, rtol=1e-9)
    assert (first[excluded] == 0).all()


def test_one_item_is_certain() -> None:
    drawn = draw(np.array([[4.2]]), 5, np.random.default_rng(0), 0.1, 0.05)
    assert drawn.items.tolist() == [[0]]
    assert drawn.propensities.tolist() == [[1.0]]


def test_a_slate_of_everything_ends_with_certainty() -> None:
    scores = np.random.default_rng(0).standard_normal((5, 7))
    drawn = draw(scores, 7, np.random.default_rng(1), 0.5, 0.1)
    assert (np.sort(drawn.items, 1) == np.arange(7)).all()
    np.testing.assert_allclose(drawn.propensities[:, -1], 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("scores", "k", "excluded", "says"),
    [
        (np.array([[1.0, np.nan]]), 1, None, "finite"),
        (np.array([[1.0, np.inf]]), 1, None, "finite"),
        (np.array([[1.0, 2.0]]), 1, np.array([True, True]), "no item is left"),
        (np.array([[1.0, 2.0]]), 0, None, "at least one"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    scores: np.ndarray, k: int, excluded: np.ndarray | None, says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        draw(scores, k, np.random.default_rng(0), 0.1, 0.05, excluded)


def test_impossible_and_absent_entries_of_a_logged_slate() -> None:
    scores = np.array([[0.0, 1.0, 2.0]])
    found = propensities(scores, np.array([[2, 2, 0, 3]]), 1.0, 0.2, np.array([False, True, False]))
    assert found[0, 1] == 0  # a second time
    assert found[0, 2] == pytest.approx(1)  # the last one left
    assert np.isnan(found[0, 3])  # padding
    assert propensities(scores, np.array([[1]]), 1.0, 0.2, np.array([False, True, False])).tolist() == [[0]]


def test_the_shift_and_the_scale_of_scores_do_not_matter() -> None:
    scores = np.random.default_rng(2).standard_normal((4, 9))
    slates = np.tile(np.arange(3), (4, 1))
    np.testing.assert_allclose(
        propensities(scores, slates, 0.3, 0.1), propensities(scores * 1e6 + 7e6, slates, 0.3, 0.1), rtol=1e-6
    )


def test_the_same_seed_draws_the_same_slates() -> None:
    scores = np.random.default_rng(2).standard_normal((4, 9))
    one, two = (draw(scores, 3, np.random.default_rng(5), 0.3, 0.2) for _ in range(2))
    np.testing.assert_array_equal(one.items, two.items)


def test_the_baselines_prefer_what_they_should() -> None:
    observation = {"profile": np.zeros((2000, 1), np.float32)}
    rng = np.random.default_rng(0)
    popular = most_popular(np.array([5.0, 50.0, 1.0, 7.0]), 0.1, 0.0)
    assert (popular.slates(observation, 4, rng).items[0] == [1, 3, 0, 2]).all()
    evenly = uniform(4, np.array([False, False, False, True]))
    drawn = evenly.slates(observation, 3, rng)
    np.testing.assert_allclose(drawn.propensities, [[1 / 3, 1 / 2, 1]] * 2000, rtol=1e-12)
    assert stats.chisquare(np.bincount(drawn.items[:, 0], minlength=3)).pvalue > 1e-3


def test_what_a_request_excludes_joins_what_is_sold_out() -> None:
    sampler = uniform(4, np.array([True, False, False, False]))
    observation = {"profile": np.zeros((50, 1), np.float32)}
    exclude = np.array([1, 4])
    drawn = sampler.slates(observation, 4, np.random.default_rng(0), exclude)
    assert set(drawn.items.ravel().tolist()) == {2, 3}
    np.testing.assert_array_equal(sampler.propensities(observation, drawn.items, exclude), drawn.propensities)

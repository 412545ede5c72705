"""Diversity, novelty, popularity, exposure and calibration: by hand, by definition, and SciPy's KL."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from recloop.evaluation.beyond import (
    SMOOTHING,
    Library,
    beyond_accuracy,
    diversity,
    gini,
    miscalibration,
)

FOUR = Library(
    features=np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 3.0], [1.0, 1.0]]),
    popularity=np.array([7.0, 3.0, 1.0, 1.0]),  # shares, with one added to each: 8/16, 4/16, 2/16, 2/16
    category=np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]),
)


def test_known_answers() -> None:
    top, history = np.array([[0, 1], [2, 0]]), np.array([[1, 4], [4, 4]])
    found = beyond_accuracy(top, history, FOUR)
    assert found["diversity"] == pytest.approx((0 + 1) / 2)  # the same direction; at right angles
    assert found["novelty"] == pytest.approx((1 + 2 + 3 + 1) / 4)
    assert found["popularity"] == pytest.approx(4 * ((0.5 + 0.25) / 2 + (0.125 + 0.5) / 2) / 2)
    assert found["popularity_lift"] == pytest.approx(0.375 / 0.25 - 1)  # the second has no past
    assert found["gini"] == pytest.approx((2 * (1 * 0 + 2 * 1 + 3 * 1 + 4 * 2) - 5 * 4) / (4 * 4))
    assert found["miscalibration"] == 0  # all of both is of the first category


@settings(deadline=None, max_examples=60)
@given(people=st.integers(1, 5), k=st.integers(2, 5), seed=st.integers(0, 2**32 - 1))
def test_by_definition(people: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((7, 3))
    features[0] = 0
    category = rng.dirichlet(np.ones(3), 7) * (rng.random((7, 3)) < 0.7)
    category[category.sum(1) == 0, 0] = 1
    category /= category.sum(1, keepdims=True)
    top = np.stack([rng.permutation(7)[:k] for _ in range(people)])
    history = rng.integers(0, 8, (people, 4))
    history[:, 0] = rng.integers(0, 7, people)

    def cosine(i: int, j: int) -> float:
        size = np.linalg.norm(features[i]) * np.linalg.norm(features[j])
        return float(features[i] @ features[j] / size) if size else 0.0

    far = [np.mean([1 - cosine(i, j) for i, j in combinations(row, 2)]) for row in top.tolist()]
    np.testing.assert_allclose(diversity(top, features), far, atol=1e-12)
    gaps = []
    for row, past in zip(top, history, strict=True):
        wanted, given_ = category[past[past < 7]].mean(0), category[row].mean(0)
        gaps.append(entropy(wanted, (1 - SMOOTHING) * given_ + SMOOTHING * wanted))
    np.testing.assert_allclose(miscalibration(top, history, category), gaps, atol=1e-12)


def test_gini_of_all_alike_of_one_and_of_the_textbook_pairs() -> None:
    assert gini(np.full(9, 3)) == 0
    assert gini(np.zeros(4)) == 0
    assert gini(np.array([0, 0, 0, 5])) == pytest.approx(3 / 4)
    values = np.random.default_rng(0).integers(0, 50, 40)
    pairs = np.abs(values[:, None] - values[None]).sum() / (2 * len(values) ** 2 * values.mean())
    assert gini(values) == pytest.approx(pairs)


def test_calibration_sees_a_lost_taste_and_its_ceiling() -> None:
    """A history half of one category: recommendations without it cost 0.5 log(0.5 / 0.005) + ..."""
    history = np.array([[0, 2]])
    lost = miscalibration(np.array([[0, 1]]), history, FOUR.category)[0]
    assert lost == pytest.approx(0.5 * math.log(0.5 / 0.995) + 0.5 * math.log(0.5 / 0.005))
    assert miscalibration(np.array([[1, 2]]), history, FOUR.category)[0] == pytest.approx(0, abs=1e-12)


def test_nobody_gives_no_number() -> None:
    found = beyond_accuracy(np.zeros((0, 3), np.int64), np.zeros((0, 2), np.int64), FOUR)
    assert all(math.isnan(value) for value in found.values())
    strangers = beyond_accuracy(np.array([[0, 1]]), np.array([[4, 4]]), FOUR)
    assert math.isnan(strangers["popularity_lift"])
    assert math.isnan(strangers["miscalibration"])
    assert strangers["novelty"] == pytest.approx(1.5)

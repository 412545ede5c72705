"""Distances are their definitions, and are told from chance whatever the sample."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from recloop.experiments.drift import categories_drift, counts_drift, mix_drift, numbers_drift, steps_drift


def test_psi_is_its_definition():
    reference, recent = ["a"] * 60 + ["b"] * 40, ["a"] * 30 + ["b"] * 70
    p, q = np.array([60.5, 40.5]) / 101, np.array([30.5, 70.5]) / 101
    found = categories_drift("f", reference, recent)
    assert found.distance == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert found.drifted


def test_ks_is_scipy_s_and_its_threshold_the_smirnov_bound():
    rng = np.random.default_rng(1)
    reference, recent = rng.normal(0, 1, 400).tolist(), rng.normal(1, 1, 300).tolist()
    found = numbers_drift("f", reference, recent)
    assert found.distance == pytest.approx(stats.ks_2samp(reference, recent).statistic)
    assert stats.distributions.kstwobign.sf(found.threshold / (1 / 400 + 1 / 300) ** 0.5) == pytest.approx(
        0.001, rel=0.02
    )
    assert found.drifted


CELLS = st.lists(st.integers(0, 60), min_size=4, max_size=4).filter(any)


@given(CELLS, CELLS)
def test_the_divergence_of_mixes_is_scipy_s(reference, recent):
    names = "abcd"
    found = mix_drift("f", dict(zip(names, reference, strict=True)), dict(zip(names, recent, strict=True)))
    assert found.distance == pytest.approx(jensenshannon(reference, recent) ** 2, abs=1e-9)
    assert found.distance <= np.log(2) + 1e-9


def test_mixes_with_nothing_in_common_are_ln_2_apart():
    assert mix_drift("f", {"a": 50}, {"b": 70}).distance == pytest.approx(np.log(2))


def test_for_near_mixes_it_is_an_eighth_of_the_psi():
    reference, recent = {"a": 50_000, "b": 50_000}, {"a": 51_000, "b": 49_000}
    psi = counts_drift("f", reference, recent).distance
    assert mix_drift("f", reference, recent).distance == pytest.approx(psi / 8, rel=0.01)


@given(CELLS, CELLS)
def test_the_distance_of_steps_is_that_of_numbers_on_them(reference, recent):
    steps = ["5", "10", "20", "100"]  # in the order of numbers, not of texts
    found = steps_drift("f", dict(zip(steps, reference, strict=True)), dict(zip(steps, recent, strict=True)))
    values = [np.repeat([5, 10, 20, 100], counts) for counts in (reference, recent)]
    assert found.distance == pytest.approx(stats.ks_2samp(*values, method="asymp").statistic)


@pytest.mark.parametrize("size", [30, 300, 3000])
def test_the_same_people_seldom_drift_whatever_the_sample(size):
    rng = np.random.default_rng(size)
    alarms = 0
    shares = [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05]
    for _ in range(300):
        words = rng.choice(list("abcdefgh"), (2, size), p=shares)
        ages = rng.normal(40, 10, (2, size))
        alarms += categories_drift("f", *words.tolist()).drifted
        alarms += numbers_drift("f", *ages.tolist()).drifted
        counts = [dict(zip("12345678", rng.multinomial(size, shares), strict=True)) for _ in range(2)]
        alarms += mix_drift("f", *counts).drifted + steps_drift("f", *counts).drifted
    assert alarms <= 6


@pytest.mark.parametrize("compare", [counts_drift, mix_drift])
def test_chance_is_what_was_asked_for(compare):
    """Of 4,000 pairs of samples of the same people, one in a hundred is beyond a chance of 0.01."""
    rng, beyond = np.random.default_rng(2), 0
    for _ in range(4000):
        one, two = (
            dict(zip("abcd", rng.multinomial(n, [0.4, 0.3, 0.2, 0.1]), strict=True)) for n in (900, 400)
        )
        beyond += compare("f", one, two, matters=0.0, chance=0.01).drifted
    assert 20 <= beyond <= 65


def test_a_shift_that_matters_to_nobody_is_no_drift_however_many_saw_it():
    reference, recent = ["a"] * 500_000 + ["b"] * 500_000, ["a"] * 510_000 + ["b"] * 490_000
    found = categories_drift("f", reference, recent)
    assert stats.chi2_contingency([[500_000, 500_000], [510_000, 490_000]]).pvalue < 1e-9
    assert not found.drifted
    counts = {"a": 500_000, "b": 500_000}, {"a": 510_000, "b": 490_000}
    assert not mix_drift("f", *counts).drifted


def test_an_empty_sample_has_no_distance():
    assert categories_drift("f", [], ["a"]) is None
    assert numbers_drift("f", [1.0], []) is None
    assert mix_drift("f", {}, {"a": 1}) is None
    assert steps_drift("f", {"1": 1}, {}) is None

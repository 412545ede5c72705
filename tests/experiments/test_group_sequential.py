"""Bounds against published tables, and operating characteristics against simulated scores."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from recloop.experiments.group_sequential import crossing, design, efficacy, futility, obrien_fleming


def gamma(parameter):
    """Hwang, Shih and DeCani's spending function, gsDesign's default."""
    return lambda t, total: total * (1 - np.exp(-parameter * t)) / (1 - np.exp(-parameter))


@pytest.mark.parametrize(
    ("bounds", "looks"),
    [
        # Jennison and Turnbull 2000, tables 2.3 (O'Brien-Fleming: c sqrt(K/k)) and 2.1 (Pocock), alpha 0.05
        ([2.040 * (5 / k) ** 0.5 for k in range(1, 6)], 5),
        ([1.977 * (2 / k) ** 0.5 for k in range(1, 3)], 2),
        ([2.413] * 5, 5),
        ([2.555] * 10, 10),
    ],
)
def test_published_bounds_have_their_published_level(bounds, looks):
    times = [(k + 1) / looks for k in range(looks)]
    below, above = crossing(times, [-b for b in bounds], bounds, 0.0)
    assert below.sum() + above.sum() == pytest.approx(0.05, abs=1e-4)
    assert below == pytest.approx(above)


@pytest.mark.parametrize(
    ("looks", "total", "published"),
    [
        (5, 0.025, (4.8769, 3.3569, 2.6803, 2.2898, 2.0310)),  # Lan and DeMets' alpha_1*, as in ldbounds
        (3, 0.025, (3.7103, 2.5114, 1.9930)),
        (2, 0.025, (2.9626, 1.9686)),
        (4, 0.05, (3.7496, 2.5399, 2.0160, 1.7201)),
        (1, 0.025, (1.95996,)),
    ],
)
def test_bounds_by_obrien_fleming_like_spending_are_those_published(looks, total, published):
    found = efficacy([(k + 1) / looks for k in range(looks)], total)
    assert found == pytest.approx(published, abs=1.5e-3)


def test_bounds_futility_and_inflation_are_gsdesign_s_default():
    times = [1 / 3, 2 / 3, 1.0]
    upper = efficacy(times, 0.025, gamma(-4))
    drift = (stats.norm.isf(0.025) + stats.norm.isf(0.1)) * 1.07**0.5
    lower = futility(times, upper, 0.1, drift, gamma(-2))
    assert upper == pytest.approx((3.0107, 2.5465, 1.9992), abs=1e-3)
    assert lower == pytest.approx((-0.2387, 0.9411, 1.9992), abs=1e-3)
    assert crossing(times, lower, upper, drift)[1].sum() == pytest.approx(0.9, abs=1e-3)


@pytest.mark.parametrize("looks", [1, 2, 5])
def test_simulated_scores_keep_the_level_and_reach_the_power(looks):
    made, runs = design(looks, 0.05, 0.8), 200_000
    bounds = made.bounds()
    steps = np.random.default_rng(1).normal(size=(runs, looks)) / looks**0.5
    times = np.array(made.fractions)
    upper, lower = np.array(bounds.efficacy), np.array(bounds.futility)
    ever = (np.abs(steps.cumsum(1) / times**0.5) >= upper).any(1)
    assert ever.mean() == pytest.approx(0.05, abs=4 * (0.05 * 0.95 / runs) ** 0.5)
    z = steps.cumsum(1) / times**0.5 + made.drift * times**0.5
    out = (z >= upper) | (z < lower)
    first = out.argmax(1)
    won = z[np.arange(runs), first] >= upper[first]
    assert won.mean() == pytest.approx(0.8, abs=4 * (0.8 * 0.2 / runs) ** 0.5)
    assert times[first].mean() == pytest.approx(made.expected(made.drift), abs=0.005)
    assert lower[-1] == upper[-1]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.05, 0.98), min_size=1, max_size=6, unique_by=lambda t: round(t * 40)))
def test_whenever_one_looks_the_level_is_spent_exactly(looked):
    times = [t for t in sorted(looked) if t < 0.98] + [1.0]
    times = [t for t, before in zip(times, [0.0, *times], strict=False) if t - before >= 0.01]
    upper = efficacy(times, 0.025)
    above = crossing(times, [-b for b in upper], upper, 0.0)[1]
    assert above.cumsum() == pytest.approx([obrien_fleming(t, 0.025) for t in times], abs=1e-7)


def test_looks_that_cannot_be_are_refused():
    for times in ([0.5, 0.4], [0.5, 0.505], [0.0], [0.5, 1.1]):
        with pytest.raises(ValueError, match="must ascend"):
            efficacy(times, 0.025)
    with pytest.raises(ValueError, match="1 to 50 looks"):
        design(0)
    with pytest.raises(ValueError, match="power"):
        design(5, 0.05, 1.0)

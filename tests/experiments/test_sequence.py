"""Always-valid figures: closed forms, and that they miss as seldom as they say however often one looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, optimize, stats

from recloop.experiments import Clusters, difference, effective, excess, sample_ratio, watched
from recloop.experiments.sequence import always_valid_p, critical


def arms(rng, n, m, gap=0.0):
    return [Clusters(rng.normal(shift, 1, size), np.ones(size)) for size, shift in ((n, 0.0), (m, gap))]


def squared_bound(r, alpha=0.05):
    return (1 + r) * np.log((1 + r) / (r * alpha**2))


TIGHTEST = optimize.minimize_scalar(
    squared_bound, bounds=(1e-3, 5), method="bounded", options={"xatol": 1e-9}
).x


def test_bounds_are_the_mixture_s_and_tightest_where_they_were_asked_to_be():
    for seen in (0.03, 1.0, 40.0):
        assert critical(seen) ** 2 == pytest.approx(squared_bound(TIGHTEST / seen), rel=1e-6)
    assert critical(1.0) == pytest.approx(3.03, abs=0.01)
    assert critical(0.0) == np.inf


def test_the_evidence_is_a_normal_mixture_of_likelihood_ratios():
    seen, z = 0.7, 2.9
    spread = (seen / TIGHTEST) ** 0.5  # Z is N(theta spread, 1), and theta is drawn from N(0, 1)
    ratio, _ = integrate.quad(
        lambda t: np.exp(z * t * spread - (t * spread) ** 2 / 2) * stats.norm.pdf(t), -12, 12, limit=200
    )
    assert always_valid_p(z, seen) == pytest.approx(1 / ratio, rel=1e-5)


@given(st.floats(1e-3, 1e3), st.floats(1e-4, 0.4))
def test_the_p_value_reaches_alpha_where_the_bounds_are(seen, alpha):
    assert always_valid_p(critical(seen, alpha), seen, alpha) == pytest.approx(alpha, rel=1e-6)


def test_it_is_wider_than_a_fixed_interval_and_infinite_without_data():
    control, treatment = arms(np.random.default_rng(1), 300, 200)
    fixed, (always, p) = difference(control, treatment), watched(control, treatment, 1.0)
    assert always.low < fixed.low < fixed.high < always.high
    assert (always.low <= 0 <= always.high) == (p > 0.05)
    nobody = Clusters(np.zeros(0), np.zeros(0))
    found, p = watched(nobody, treatment, 0.0)
    assert (found.low, found.high, p) == (-np.inf, np.inf, 1.0)
    assert effective(100, 100) == 200
    assert effective(0, 100) == 0


def test_a_constant_metric_is_known_exactly():
    one, two = (Clusters(np.full(9, value), np.ones(9)) for value in (1.0, 2.0))
    assert watched(one, one, 1.0)[1] == 1.0
    found, p = watched(one, two, 1.0)
    assert (found.low, found.high, p) == (1.0, 1.0, 0.0)


def test_p_values_watched_without_end_stay_above_alpha_in_most_aa_runs():
    runs, looks, alpha = 4000, 2000, 0.05
    z = np.random.default_rng(2).normal(size=(runs, looks)).cumsum(1) / np.arange(1, looks + 1) ** 0.5
    bound = np.array([critical(n / 500, alpha) for n in range(1, looks + 1)])
    assert (np.abs(z) >= bound).any(1).mean() <= alpha
    assert (np.abs(z) >= 1.96).any(1).mean() > 0.4, "the data is not watched enough to tell the two apart"


def test_sizes_watched_person_by_person_raise_a_false_alarm_as_seldom_as_they_say():
    rng, runs, people = np.random.default_rng(3), 400, 600
    counts = (rng.random((runs, people)) < 0.3).cumsum(1)
    looks = np.arange(50, people, 10)
    ever = sum(
        min(sample_ratio([n - row[n - 1], row[n - 1]], [0.7, 0.3]) for n in looks) < 0.05 for row in counts
    )
    assert ever / runs <= 0.05
    z = (counts[:, looks - 1] - 0.3 * looks) / (0.21 * looks) ** 0.5
    assert (np.abs(z) > 1.96).any(1).mean() > 0.15, "the data is not watched enough to tell the two apart"


def test_too_many_failures_are_found_and_allowed_ones_are_no_alarm():
    rng, runs, requests = np.random.default_rng(4), 300, 2000
    for rate, alarmed in ((0.01, (0.0, 0.05)), (0.05, (0.99, 1.0))):
        failed = (rng.random((runs, requests)) < rate).cumsum(1)
        looks = range(19, requests, 20)
        ever = np.mean([min(excess(int(row[n]), n + 1, 0.01) for n in looks) < 0.05 for row in failed])
        assert alarmed[0] <= ever <= alarmed[1]


def test_excess_is_the_mixture_over_larger_shares():
    count, total, share = 15, 200, 0.02
    mixed = integrate.quad(
        lambda p: (p / share) ** count * ((1 - p) / (1 - share)) ** (total - count), share, 0.3
    )[0]
    assert excess(count, total, share) == pytest.approx((1 - share) / mixed, rel=1e-6)
    assert excess(0, 50, 0.01) == 1.0
    assert excess(0, 0, 0.01) == 1.0
    assert excess(5, 5, 1.0) == 1.0
    assert excess(5, 100, 0.0) == 0.0

"""Assignment has the right shares and never flips; intervals agree with closed forms and cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from recloop.experiments import Clusters, difference, in_challenger, place, sample_ratio

PEOPLE = [f"u{n}" for n in range(100_000)]


@pytest.fixture(scope="module")
def places():
    return {salt: np.array([place(user, salt) for user in PEOPLE]) for salt in ("one", "two")}


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5])
def test_shares_are_what_was_asked_for(places, share):
    got = (places["one"] < share).mean()
    assert abs(got - share) < 4 * (share * (1 - share) / len(PEOPLE)) ** 0.5


def test_places_are_uniform_and_independent_between_salts(places):
    assert stats.kstest(places["one"], "uniform").pvalue > 1e-4
    assert abs(np.corrcoef(places["one"], places["two"])[0, 1]) < 4 / len(PEOPLE) ** 0.5
    table = np.histogram2d(places["one"], places["two"], bins=10)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-4


@given(st.text(min_size=1, max_size=64), st.text(max_size=32), st.floats(0, 1), st.floats(0, 1))
def test_a_growing_share_sends_nobody_back(user, salt, a, b):
    small, large = sorted((a, b))
    assert not in_challenger(user, salt, small) or in_challenger(user, salt, large)
    assert not in_challenger(user, salt, 0.0)
    assert in_challenger(user, salt, 1.0)


def test_one_request_per_person_is_welch():
    rng = np.random.default_rng(3)
    a, b = rng.normal(1, 2, 40), rng.normal(1.5, 1, 25)
    ours = difference(Clusters(a, np.ones(40)), Clusters(b, np.ones(25)), 0.9)
    welch = stats.ttest_ind(b, a, equal_var=False).confidence_interval(0.9)
    assert (ours.low, ours.high) == pytest.approx((welch.low, welch.high), abs=1e-12)
    assert ours.difference == pytest.approx(b.mean() - a.mean())


def test_equal_requests_per_person_are_welch_on_the_people_s_means():
    rng = np.random.default_rng(4)
    a, b = rng.normal(1, 2, (40, 7)), rng.normal(1.5, 1, (25, 7))
    ours = difference(Clusters(a.sum(1), np.full(40, 7.0)), Clusters(b.sum(1), np.full(25, 7.0)))
    welch = stats.ttest_ind(b.mean(1), a.mean(1), equal_var=False).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx((welch.low, welch.high), abs=1e-12)


def test_the_interval_covers_when_heavy_users_differ_where_a_per_request_one_does_not():
    rng = np.random.default_rng(5)
    covered, naive_covered, runs = 0, 0, 400
    for _ in range(runs):
        arms, rows = [], []
        for _ in range(2):
            counts = rng.integers(1, 20, 60)
            taste = rng.gamma(2, 0.5, 60)  # the same in both arms: the true difference is 0
            values = [rng.poisson(t, c) for t, c in zip(taste, counts, strict=True)]
            arms.append(Clusters(np.array([v.sum() for v in values], float), counts.astype(float)))
            rows.append(np.concatenate(values))
        got = difference(*arms)
        covered += got.low <= 0 <= got.high
        naive = stats.ttest_ind(rows[1], rows[0], equal_var=False).confidence_interval(0.95)
        naive_covered += naive.low <= 0 <= naive.high
    assert covered / runs > 0.92
    assert naive_covered / runs < 0.85, "the data is not clustered enough to tell the two apart"


def test_too_few_people_say_so_with_infinite_bounds():
    one = Clusters(np.array([3.0]), np.array([2.0]))
    many = Clusters(np.arange(9.0), np.ones(9))
    assert (difference(one, many).low, difference(one, many).high) == (float("-inf"), float("inf"))
    with pytest.raises(ValueError, match="at least one request"):
        Clusters(np.zeros(2), np.array([1.0, 0.0]))


def test_sample_ratio_knows_a_fair_split_from_a_broken_one():
    assert sample_ratio([700, 300], [0.7, 0.3]) == pytest.approx(1.0)
    bayes_factor = special.betaln(70 + 800, 30 + 200) - special.betaln(70, 30)
    bayes_factor -= 800 * np.log(0.7) + 200 * np.log(0.3)
    assert sample_ratio([800, 200], [0.7, 0.3]) == pytest.approx(np.exp(-bayes_factor))
    assert sample_ratio([800, 200], [0.7, 0.3]) < 1e-9
    assert sample_ratio([400, 400, 250], [0.4, 0.4, 0.2]) > 0.05
    assert sample_ratio([400, 300, 350], [0.4, 0.4, 0.2]) < 1e-9

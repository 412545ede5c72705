"""CUPED: unbiased, narrower by the correlation, and closed to what was measured after exposure."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from recloop.experiments import Clusters, difference
from recloop.experiments.cuped import Covariate, adjusted
from recloop.experiments.multiple import corrected


def known_before(values):
    n = len(values)
    return Covariate(values, np.full(n, 5), np.full(n, 10))


def world(rng, people=4000, effect=0.1):
    before = rng.normal(2, 1, people)
    arm = rng.random(people) < 0.5
    after = 0.8 * before + rng.normal(0, 0.6, people) + effect * arm
    return [(after[side], before[side]) for side in (~arm, arm)]


def both(parts):
    arms = [Clusters(after, np.ones(len(after))) for after, _ in parts]
    return arms, adjusted(arms, [known_before(before) for _, before in parts])


def test_the_variance_falls_by_the_squared_correlation_and_the_effect_stays():
    rng, gaps, plain = np.random.default_rng(1), [], []
    for _ in range(300):
        raw, better = both(world(rng, 400))
        gaps.append(difference(*better).difference)
        plain.append(difference(*raw).difference)
    assert np.mean(gaps) == pytest.approx(0.1, abs=4 * np.std(gaps) / 300**0.5)
    together = [sum(arm.totals.sum() for arm in arms) for arms in (raw, better)]
    assert together[0] == pytest.approx(together[1]), "what is taken from some is given to others"
    correlation = 0.8 / (0.8**2 + 0.6**2) ** 0.5
    assert np.var(gaps) / np.var(plain) == pytest.approx(1 - correlation**2, rel=0.3)


def test_the_interval_is_that_of_the_regression_on_the_covariate():
    parts = world(np.random.default_rng(2))
    _, better = both(parts)
    rows = pd.concat(
        pd.DataFrame({"after": after, "before": before, "arm": float(arm)})
        for arm, (after, before) in enumerate(parts)
    )
    fitted = smf.ols("after ~ arm + before", rows).fit(cov_type="HC1")
    low, high = fitted.conf_int().loc["arm"]
    found = difference(*better)
    assert found.difference == pytest.approx(fitted.params["arm"], abs=1e-4)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)


def test_ratio_metrics_are_clustered_as_statsmodels_clusters_them():
    rng = np.random.default_rng(3)
    rows, arms = [], []
    for arm in range(2):
        counts = rng.geometric(0.1, 500)
        taste = rng.gamma(2, 0.5, 500)
        values = [rng.poisson(t, c) for t, c in zip(taste, counts, strict=True)]
        arms.append(Clusters(np.array([v.sum() for v in values], float), counts.astype(float)))
        rows += [
            pd.DataFrame({"value": v, "arm": arm, "person": 1000 * arm + i}) for i, v in enumerate(values)
        ]
    table = pd.concat(rows)
    fitted = smf.ols("value ~ arm", table).fit(cov_type="cluster", cov_kwds={"groups": table.person})
    low, high = fitted.conf_int().loc["arm"]
    found = difference(*arms)
    assert found.difference == pytest.approx(fitted.params["arm"])
    assert (found.low, found.high) == pytest.approx((low, high), rel=5e-3)


def test_ratio_metrics_gain_too():
    rng = np.random.default_rng(4)
    arms, covariates = [], []
    for _ in range(2):
        taste, counts = rng.gamma(2, 0.5, 800), rng.integers(1, 15, 800).astype(float)
        arms.append(Clusters(rng.poisson(taste * counts).astype(float), counts))
        covariates.append(known_before(rng.poisson(5 * taste) / 5))
    better = adjusted(arms, covariates)
    assert better[0].variance < 0.8 * arms[0].variance
    shift = difference(*better).difference - difference(*arms).difference
    assert abs(shift) < 3 * (arms[0].variance + arms[1].variance) ** 0.5


def test_a_covariate_measured_after_exposure_is_refused():
    with pytest.raises(ValueError, match="of 1 of 3 people was measured at or after their"):
        Covariate(np.arange(3.0), np.array([4, 9, 2]), np.array([5, 9, 5]))


def test_why_it_is_refused_the_effect_would_be_adjusted_away():
    rng = np.random.default_rng(5)
    taste = [rng.normal(0, 0.1, 2000) + effect for effect in (0.0, 0.5)]
    arms = [Clusters(side + rng.normal(0, 0.1, 2000), np.ones(2000)) for side in taste]
    after = [side + rng.normal(0, 0.1, 2000) for side in taste]  # moved by the treatment itself
    wrong = adjusted(arms, [known_before(x) for x in after])  # its moments are a lie
    assert difference(*arms).difference == pytest.approx(0.5, abs=0.02)
    assert difference(*wrong).difference < 0.3


def test_a_constant_or_a_wrong_length_covariate():
    arm = Clusters(np.arange(4.0), np.ones(4))
    same = adjusted([arm, arm], [known_before(np.ones(4))] * 2)
    assert same[0].totals.tolist() == arm.totals.tolist()
    with pytest.raises(ValueError, match="3 covariates for 4 people"):
        adjusted([arm, arm], [known_before(np.ones(3))] * 2)


def test_corrections_by_hand():
    p_values = {"a": 0.01, "b": 0.04, "c": 0.03}
    assert corrected(p_values, "holm") == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06})
    assert corrected(p_values, "fdr_bh") == pytest.approx({"a": 0.03, "b": 0.04, "c": 0.04})
    assert corrected({}, "holm") == {}

"""Whole experiments, thousands of times: verdicts are as often right as the plan says.

Tolerances are three standard errors of the share of runs.
"""

import numpy as np
import pytest

from benchmarks.experiments import lists, rankers_power, ratio_paths, watch
from recloop.experiments import Clusters, watched
from recloop.experiments.difference import Welch
from recloop.experiments.group_sequential import design
from recloop.experiments.plan import Assumptions, plan
from recloop.experiments.sequence import critical

RUNS = 1000


def tolerance(share, runs=RUNS):
    return 3 * (share * (1 - share) / runs) ** 0.5


def test_the_vectorised_paths_are_those_of_the_library():
    rng = np.random.default_rng(1)
    counts = 1.0 + rng.poisson(2, (2, 3, 60))
    totals = rng.poisson(0.5 * counts).astype(float)
    ends = np.array([20, 40, 60])
    (control, one), (treatment, other) = (
        ratio_paths(t, c, ends) for t, c in zip(totals, counts, strict=True)
    )
    for run in range(3):
        for i, end in enumerate(ends):
            arms = [Clusters(totals[a, run, :end], counts[a, run, :end]) for a in range(2)]
            found = Welch.of(*arms)
            assert treatment[run, i] - control[run, i] == pytest.approx(found.gap, abs=1e-12)
            assert (one + other)[run, i] ** 0.5 == pytest.approx(found.error, rel=1e-9)


@pytest.mark.slow
def test_aa_watched_continuously_gives_at_most_five_percent_false_verdicts():
    found = watch(RUNS, 1500, 0.0, np.random.default_rng(2))
    assert found.sequence().mean() <= 0.05
    assert np.logical_or(*found.group_sequential(design(5))).mean() <= 0.05
    assert found.fixed().mean() > 0.3, "a fixed interval must be caught, or this test tells nothing"


@pytest.mark.slow
def test_the_group_sequential_level_is_used_where_futility_is_not_obeyed():
    made, runs = design(5), 4000
    found = watch(runs, 600, 0.0, np.random.default_rng(3), checks=5)
    crossed = (np.abs(found.z) >= made.bounds().efficacy).any(1).mean()
    assert crossed == pytest.approx(0.05, abs=tolerance(0.05, runs))


@pytest.mark.slow
def test_ab_with_the_planned_lift_reaches_the_stated_power():
    rng = np.random.default_rng(4)
    counts = 1.0 + rng.poisson(2, 200_000)
    arms = [
        Clusters(rng.poisson(counts * rng.gamma(4, rate / 4, len(counts))).astype(float), counts)
        for rate in (0.5, 0.56)
    ]
    sd = np.mean([arm.linear.var() for arm in arms]) ** 0.5  # the treatment changes the variance too
    wanted = plan(Assumptions(0.5, sd, per_day=100), 0.12)
    found = watch(RUNS, wanted.people // 2, wanted.effect, rng)
    won, lost = found.group_sequential(design(5))
    assert won.mean() == pytest.approx(0.8, abs=tolerance(0.8))
    assert lost.mean() <= 0.005
    assert found.sequence().mean() > 0.5, "a harmed guardrail of the same size is found in most runs"


@pytest.mark.slow
def test_people_who_come_back_do_not_break_the_canary_s_interval():
    """An A/A canary as the gate watches it: requests of people who return, asked for every 50 requests."""
    rng, runs, needed, share = np.random.default_rng(5), 300, 300, 0.3
    people, requests, every = 1500, 9000, 50
    worse = fixed = 0
    for run in range(runs):
        treated = rng.random(people) < share
        taste, activity = rng.beta(2, 3, people), rng.dirichlet(np.full(people, 0.5))
        whose = rng.choice(people, requests, p=activity)
        reward = rng.random(requests) < taste[whose]
        cells = whose * (requests // every) + np.arange(requests) // every
        counts, totals = (
            np.bincount(cells, w, people * (requests // every)).reshape(people, -1).cumsum(1)
            for w in (None, reward.astype(float))
        )
        parts, asked = [], []
        for side in (~treated, treated):
            n = (counts[side] > 0).sum(0)
            t, c = totals[side].sum(0), counts[side].sum(0).astype(float)
            spread = ((totals[side] - t / c * counts[side]) ** 2).sum(0)
            parts.append((t / c, spread / (n - 1) * n / c**2))
            asked.append(c)
        z = (parts[1][0] - parts[0][0]) / np.sqrt(parts[0][1] + parts[1][1])
        ready = asked[1] >= needed
        seen = 4 / (1 / asked[0] + 1 / asked[1]) / (4 * needed * (1 - share))
        bound = np.array([critical(s, 0.1) for s in seen])
        worse += bool((z <= -bound)[ready].any())
        fixed += bool((z <= -1.96)[ready].any())
        if run == 0:  # the same figures, by the function that the gate calls
            arms = [
                Clusters(totals[side, -1][counts[side, -1] > 0], counts[side, -1][counts[side, -1] > 0] * 1.0)
                for side in (~treated, treated)
            ]
            gap, _ = watched(arms[0], arms[1], seen[-1], 0.1)
            assert gap.difference == pytest.approx(parts[1][0][-1] - parts[0][0][-1])
            half = bound[-1] * np.sqrt(parts[0][1][-1] + parts[1][1][-1])
            assert gap.high - gap.difference == pytest.approx(half, rel=0.05), "Student's t is a little wider"
    assert worse / runs <= 0.05
    assert fixed / runs > 0.05, "a fixed interval must be caught, or this test tells nothing"


@pytest.mark.slow
def test_a_better_ranker_is_found_with_a_fraction_of_the_people_by_interleaving():
    sizes = [200, 400, 800, 1600]
    interleaved, split = rankers_power(sizes, 400, np.random.default_rng(6))
    assert interleaved[2] > 0.9
    for half, whole in zip(interleaved, split[1:], strict=False):
        assert half > whole + 0.05, "half of the people find more"
    alike = lists(100_000, np.random.default_rng(7), noise=(0.7, 0.7))[:, 2]
    assert np.abs(np.mean(np.sign(alike))) < 4 / len(alike) ** 0.5

"""Plans: textbook sample sizes, and that a plan keeps its promise when it is simulated."""

from itertools import pairwise

import numpy as np
import pytest

from recloop.experiments.group_sequential import design
from recloop.experiments.plan import Assumptions, plan, plot


def test_people_without_looks_are_the_textbook_s():
    rate = plan(Assumptions(0.10, None, per_day=100, looks=1), 0.2)
    # (1.96 sqrt(2 p q) + 0.8416 sqrt(p1 q1 + p2 q2))^2 / d^2 per arm: 3,841 (Fleiss 1981)
    assert rate.people / 2 == pytest.approx(3841, abs=2)
    mean = plan(Assumptions(10.0, 4.0, per_day=100, looks=1), 0.1)
    assert mean.people == pytest.approx(2 * 2 * (1.95996 + 0.84162) ** 2 * 4**2, abs=2)
    assert (mean.effect, mean.fixed, mean.days) == (1.0, mean.people, -(-mean.people // 100))


def test_looks_cost_people_and_save_days():
    given = Assumptions(10.0, 4.0, per_day=100, looks=5)
    found = plan(given, 0.1)
    assert found.people / found.fixed == pytest.approx(design(5).inflation, rel=0.01)
    assert found.days_if_not < found.days_if_there < found.fixed / 100 < found.days


def test_an_uneven_split_needs_more_people_a_smaller_lift_four_times_as_many():
    even, uneven = (plan(Assumptions(10.0, 4.0, 100, share=share), 0.1).people for share in (0.5, 0.1))
    assert uneven / even == pytest.approx(0.25 / (0.1 * 0.9), rel=0.01)
    assert plan(Assumptions(10.0, 4.0, 100), 0.05).people / even == pytest.approx(4, rel=0.01)


def test_a_planned_rate_is_found_as_often_as_promised():
    found, made = plan(Assumptions(0.2, None, 100), 0.25), design(5, 0.05, 0.8)
    rng, runs, bounds = np.random.default_rng(1), 4000, made.bounds()
    edges = np.linspace(0, found.people / 2, 6).astype(int)
    clicks = [
        np.stack([rng.binomial(b - a, p, runs) for a, b in pairwise(edges)], 1).cumsum(1) for p in (0.2, 0.25)
    ]
    n = edges[1:]
    rates = [side / n for side in clicks]
    z = (rates[1] - rates[0]) / np.sqrt(sum(r * (1 - r) for r in rates) / n)
    out = (z >= bounds.efficacy) | (z < bounds.futility)
    first = out.argmax(1)
    won = (z[np.arange(runs), first] >= np.array(bounds.efficacy)[first]).mean()
    assert won == pytest.approx(0.8, abs=4 * (0.16 / runs) ** 0.5)
    assert (n[first] * 2 / 100).mean() == pytest.approx(found.days_if_there, rel=0.03)


def test_what_cannot_be_planned_says_why(tmp_path):
    for wrong, why in (
        ({"mean": 1.5, "sd": None}, "a rate lies between"),
        ({"mean": 0.0, "sd": 1.0}, "cannot be 0"),
        ({"sd": -1.0}, "must be positive"),
        ({"per_day": 0}, "per_day must be positive"),
    ):
        with pytest.raises(ValueError, match=why):
            Assumptions(**({"mean": 0.5, "sd": 1.0, "per_day": 10} | wrong))
    for lift in (0.0, 2.0, -1.0):
        with pytest.raises(ValueError, match="leads nowhere"):
            plan(Assumptions(0.5, None, 10), lift)
    given = Assumptions(0.1, None, 1000)
    plot([plan(given, lift) for lift in (0.05, 0.1)], given, tmp_path / "new" / "plan.png")
    assert (tmp_path / "new" / "plan.png").stat().st_size > 10_000

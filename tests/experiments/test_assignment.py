"""Layers share nobody or are independent; growing moves nobody; an exposure is logged once."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sqlalchemy import select

from recloop.experiments import arm, bucket, catalogue, place
from recloop.experiments.assignment import BUCKETS
from recloop.experiments.catalogue import Conflict, Experiment, Standing
from recloop.store import open_store
from recloop.store.tables import exposures

ARMS = {"control": 0.5, "treatment": 0.3, "bold": 0.2}
PEOPLE = [f"u{n}" for n in range(20_000)]


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def planned(name="one", first=0, last=BUCKETS, layer="main", arms=ARMS):
    return Experiment(
        name=name, layer=layer, first=first, last=last, arms=arms, primary="buyers", people=1000, effect=0.1
    )


def standing(experiment: Experiment, state="running") -> Standing:
    return Standing(
        experiment=experiment, salt=experiment.name, state=state, looks=(), who="t", why="t", ts=0, ended=None
    )


def test_a_million_people_get_the_shares_asked_for():
    places = np.fromiter((place(f"person-{n}", "salt") for n in range(1_000_000)), float, 1_000_000)
    edges = np.cumsum([0.0, *ARMS.values()])
    shares = np.histogram(places, np.append(edges[:-1], 1.0))[0] / len(places)
    assert np.abs(shares - list(ARMS.values())).max() < 0.002


@given(st.text(min_size=1, max_size=64), st.text(max_size=16))
def test_the_arm_is_the_one_whose_share_holds_the_place(user, salt):
    here = place(user, salt)
    assert arm(user, salt, ARMS) == ("control" if here < 0.5 else "treatment" if here < 0.8 else "bold")
    assert 0 <= bucket(user, salt) < BUCKETS


@given(st.text(min_size=1, max_size=32), st.integers(1, BUCKETS), st.integers(1, BUCKETS))
def test_a_growing_range_moves_nobody(user, a, b):
    small, large = (standing(planned(last=last)).arm_of(user) for last in sorted((a, b)))
    assert small is None or small == large


def test_ranges_of_a_layer_share_nobody_and_layers_are_independent():
    left, right = standing(planned("left", 0, 500)), standing(planned("right", 500, 1000))
    other = standing(planned("other", layer="second"))
    rows = [(left.arm_of(user), right.arm_of(user), other.arm_of(user)) for user in PEOPLE]
    assert all((a is None) != (b is None) for a, b, _ in rows)
    names = list(ARMS)
    table = np.zeros((3, 3))
    for mine, _, theirs in rows:
        if mine is not None:
            table[names.index(mine), names.index(theirs)] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(table.sum(1), table.sum() * np.array(list(ARMS.values()))).pvalue > 1e-3


def test_the_buckets_of_two_layers_are_independent_and_even():
    one, two = (np.array([bucket(user, layer) for user in PEOPLE]) for layer in ("main", "second"))
    table = np.histogram2d(one, two, bins=10, range=[(0, BUCKETS)] * 2)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3
    assert stats.chisquare(np.bincount(one, minlength=BUCKETS)).pvalue > 1e-3


def test_two_experiments_on_the_same_people_draw_arms_independently():
    one, two = (standing(planned(name)) for name in ("one", "two"))
    table = np.zeros((3, 3))
    names = list(ARMS)
    for user in PEOPLE:
        table[names.index(one.arm_of(user)), names.index(two.arm_of(user))] += 1
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_overlapping_ranges_of_a_layer_are_refused_and_stopping_frees_them(engine):
    catalogue.start(engine, planned("one", 0, 500), "t", "t")
    with pytest.raises(Conflict, match="overlap with one"):
        catalogue.start(engine, planned("two", 499, 600), "t", "t")
    assert [found.experiment.name for found in catalogue.listed(engine)] == ["one"], "nothing is left of it"
    catalogue.start(engine, planned("two", 500, 600), "t", "t")
    catalogue.start(engine, planned("elsewhere", 0, 1000, layer="second"), "t", "t")
    with pytest.raises(Conflict, match="overlap with two"):
        catalogue.widen(engine, "one", 501)
    assert catalogue.find(engine, "one").experiment.last == 500
    catalogue.stop(engine, "two", "t", "t")
    assert catalogue.widen(engine, "one", 600).experiment.last == 600
    with pytest.raises(Conflict, match="overlap with one"):
        catalogue.start(engine, planned("three", 550, 700), "t", "t")


def test_what_cannot_be_is_refused(engine):
    begun = catalogue.start(engine, planned(last=100), "t", "why")
    assert begun == catalogue.find(engine, "one")
    assert begun.experiment == planned(last=100)
    with pytest.raises(Conflict, match="choose another name"):
        catalogue.start(engine, planned(first=500), "t", "t")
    with pytest.raises(Conflict, match="cannot grow"):
        catalogue.widen(engine, "one", 100)
    with pytest.raises(Conflict, match="cannot grow"):
        catalogue.widen(engine, "one", BUCKETS + 1)
    with pytest.raises(Conflict, match="no experiment 'two' runs"):
        catalogue.stop(engine, "two", "t", "t")
    for wrong, why in (
        ({"arms": {"control": 0.5, "treatment": 0.4}}, "add up to 1"),
        ({"primary": "joy"}, "no metric"),
        ({"guardrails": ("buyers",)}, "one role"),
        ({"first": 100}, "hold nobody"),
    ):
        with pytest.raises(ValueError, match=why):
            Experiment.model_validate(planned(last=100).model_dump() | wrong)


def test_of_many_who_want_the_same_buckets_one_gets_them(engine):
    def attempt(number):
        try:
            catalogue.start(engine, planned(f"e{number}", number, 500), "t", "t")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_an_exposure_is_logged_once_and_nobody_is_exposed_to_what_has_stopped(engine):
    begun = catalogue.start(engine, planned(last=500), "t", "t")
    users = PEOPLE[:100]
    first = catalogue.expose(engine, begun, users, ts=10)
    assert 0 < len(first) < 100
    assert catalogue.expose(engine, begun, users, ts=99) == first
    with engine.connect() as connection:
        rows = connection.execute(select(exposures)).mappings().all()
    assert {row["user_id"]: row["arm"] for row in rows} == first
    assert {row["ts"] for row in rows} == {10}
    assert catalogue.expose(engine, catalogue.stop(engine, "one", "t", "t"), users) == {}

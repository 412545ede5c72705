"""Interleaving: fair lists, credit where it is due, and a better ranker found with fewer people."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recloop.experiments.interleaving import credit, prefer, team_draft


@given(st.integers(2, 4), st.integers(1, 12), st.integers(0, 99))
def test_a_list_holds_each_ranker_s_best_items_that_were_left(rankers, k, seed):
    rng = np.random.default_rng(seed)
    rankings = rng.permuted(np.broadcast_to(np.arange(12), (rankers, 5, 12)), axis=2)
    shown = team_draft(rankings, k, rng)
    for row in range(5):
        assert len(set(shown.items[row])) == k
        for start in range(0, k - rankers + 1, rankers):
            assert set(shown.team[row, start : start + rankers]) == set(range(rankers)), "one pick a round"
        for place in range(k):
            left = [i for i in rankings[shown.team[row, place], row] if i not in shown.items[row, :place]]
            assert shown.items[row, place] == left[0]


def test_radlinski_s_rounds_by_hand():
    rankings = np.array([[[0, 1, 2, 3]], [[1, 0, 3, 2]]]).repeat(1000, axis=1)
    shown = team_draft(rankings, 4, np.random.default_rng(0))
    seen = {tuple(row) for row in np.concatenate([shown.items, shown.team], axis=1)}
    assert seen == {
        (0, 1, 2, 3, 0, 1, 0, 1), (0, 1, 3, 2, 0, 1, 1, 0),
        (1, 0, 2, 3, 1, 0, 0, 1), (1, 0, 3, 2, 1, 0, 1, 0),
    }  # fmt: skip


@pytest.mark.parametrize("rankers", [2, 3])
def test_each_ranker_is_equally_likely_first_at_every_place(rankers):
    rng = np.random.default_rng(1)
    rankings = rng.permuted(np.broadcast_to(np.arange(6), (rankers, 30_000, 6)), axis=2)
    team = team_draft(rankings, 6, rng).team
    for place in range(6):
        assert stats.chisquare(np.bincount(team[:, place], minlength=rankers)).pvalue > 1e-4
    pairs = np.bincount(team[:, 0] * rankers + team[:, rankers], minlength=rankers**2)
    assert stats.chisquare(pairs).pvalue > 1e-4, "rounds are drawn independently"


def test_credit_and_one_vote_per_person():
    shown = team_draft(np.array([[[0, 1]], [[1, 0]]]).repeat(4, axis=1), 2, np.random.default_rng(2))
    clicked = np.array([[True, False], [True, True], [False, False], [True, False]])
    given_ = credit(shown, clicked, 2)
    assert given_.sum(1).tolist() == clicked.sum(1).tolist()
    assert given_[0, shown.team[0, 0]] == 1
    votes = np.array([[0, 9], [2, 0], [1, 0], [1, 1], [0, 0]])
    found = prefer(votes, np.array(["a", "b", "b", "c", "d"]))
    assert (found.first, found.second, found.ties, found.p) == (1, 1, 2, 1.0)
    assert prefer(np.zeros((3, 2), int), np.arange(3)).p == 1.0
    clear = prefer(np.tile([0, 1], (20, 1)), np.arange(20))
    assert clear.p == pytest.approx(2 * 0.5**20)
    assert 0.8 < clear.low < clear.high == 1.0


def test_rankings_that_are_too_short_are_refused():
    with pytest.raises(ValueError, match="a list of 3 cannot"):
        team_draft(np.zeros((2, 1, 2), int), 3, np.random.default_rng(0))


def test_two_equal_rankers_are_told_apart_as_seldom_as_the_level_says():
    rng, runs, people = np.random.default_rng(3), 400, 200
    found = []
    for _ in range(runs):
        rankings = rng.permuted(np.broadcast_to(np.arange(10), (2, people, 10)), axis=2)
        shown = team_draft(rankings, 5, rng)
        clicked = rng.random((people, 5)) < 0.3 * 0.7 ** np.arange(5)  # by place alone
        found.append(prefer(credit(shown, clicked, 2), np.arange(people)).p < 0.05)
    assert np.mean(found) < 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5

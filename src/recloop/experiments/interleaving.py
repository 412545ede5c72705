"""Interleaving: rankers compete within one list, so that each person compares them for themselves."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Interleaved:
    """Lists made of several rankings.

    Attributes:
        items: int64 (B, k), what is shown.
        team: int64 (B, k), the ranker that put it there.
    """

    items: np.ndarray
    team: np.ndarray


def team_draft(rankings: np.ndarray, k: int, rng: np.random.Generator) -> Interleaved:
    """Let rankers pick in turns, in an order that is drawn anew each round; each picks its best one left.

    For two rankers Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?",
    CIKM 2008, Algorithm 2; for more team-draft multileaving (Schuth et al., "Multileaved Comparisons for Fast
    Online Evaluation", CIKM 2014, Algorithm 1).

    Args:
        rankings: int64 (m, B, n), per ranker and list the items from the best down, no item twice in one.
        k: length of the lists, at most n.
        rng: draws the order of picks.
    """
    m, lists, n = rankings.shape
    if not 0 < k <= n:
        raise ValueError(f"a list of {k} cannot be made of rankings of {n}")
    rounds = -(-k // m)
    order = rng.permuted(np.broadcast_to(np.arange(m), (lists, rounds, m)), axis=2).reshape(lists, -1)[:, :k]
    rows = np.arange(lists)
    items = np.empty((lists, k), np.int64)
    for place in range(k):
        theirs = rankings[order[:, place], rows, : place + 1]  # one of them is left: fewer are taken
        taken = (theirs[:, :, None] == items[:, None, :place]).any(2)
        items[:, place] = theirs[rows, (~taken).argmax(1)]
    return Interleaved(items, order)


def credit(shown: Interleaved, clicked: np.ndarray, rankers: int) -> np.ndarray:
    """int64 (B, m): clicks on what each ranker put there; ``clicked`` bool (B, k)."""
    return np.stack([(clicked & (shown.team == ranker)).sum(1) for ranker in range(rankers)], axis=1)


@dataclass(frozen=True)
class Preference:
    """Who prefers which of two rankers.

    Attributes:
        first: people who clicked more on the first ranker's items.
        second: on the second's.
        ties: on both alike, or on none.
        p: two-sided p value of the sign test: that neither is preferred.
        low: lower bound of the share that prefers the second, among those who prefer one.
        high: upper bound (Wilson).
    """

    first: int
    second: int
    ties: int
    p: float
    low: float
    high: float


def prefer(credits: np.ndarray, people: np.ndarray, confidence: float = 0.95) -> Preference:
    """The sign test over people, each with one vote however many lists they saw.

    Args:
        credits: int64 (B, 2), as ``credit`` gives them.
        people: (B,), whose list it was.
        confidence: of the interval.
    """
    _, whose = np.unique(people, return_inverse=True)
    lead = np.bincount(whose, credits[:, 1] - credits[:, 0])
    first, second = int((lead < 0).sum()), int((lead > 0).sum())
    if first + second == 0:
        return Preference(0, 0, len(lead), 1.0, 0.0, 1.0)
    test = stats.binomtest(second, first + second)
    low, high = test.proportion_ci(confidence, method="wilson")
    return Preference(first, second, len(lead) - first - second, float(test.pvalue), float(low), float(high))

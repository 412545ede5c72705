"""A linear next-item model in closed form, and a reinforced one.

A state s is what was met lately, the item before last ``FADING`` times the last one: x_s in R^N; the
reinforced model's state has also whether it was liked, R^2N. With X the states of the log's every step and Y
the one-hot items that came next,

    B = (X'X + penalty I)^-1 X'Y

the transition part of SLIST (Choi, Kim, Lee, Shim and Lee 2021, "Session-aware linear item-item models for
session-based recommendation", section 3.3) with states that remember more than one item.

Reinforced, each step counts by its advantage over a critic, which is linear too (MARWIL: Wang et al. 2018,
"Exponentially weighted imitation learning for batched historical data", eq. 4):

    G = r + gamma r' + gamma^2 r'' + ...      v = (X'X + penalty I)^-1 X'G
    w = min(exp(beta (G - X v) / sigma), cap)    B = (X'X + penalty I)^-1 X' diag(w / mean w) Y

so that B estimates p(i | s) E[w | s, i]: likely items, the more so the more they are worth. beta = 0
imitates.
"""

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from recloop.evaluation.next_item.sequences import Log

FADING = 0.85  # weight of an item relative to the next newer one
REMEMBERED = 30  # items; what is older weighs less than 0.01
PENALTIES = (200.0, 500.0, 1000.0, 2000.0)
BETAS = (0.05, 0.1, 0.2, 0.3)
GAMMA = 0.5
CAP = 10.0
LIKES = 0.5  # weight of whether an item was liked, beside that it was met


@dataclass(frozen=True)
class Steps:
    """The log's M steps.

    Attributes:
        state: float32 (M, N), or (M, 2 N) with likes.
        following: int64 (M,), the item that came next.
        returns: float64 (M,), G.
        centre: the mean reward, from which likes are counted.
    """

    state: sparse.csr_matrix
    following: np.ndarray
    returns: np.ndarray
    centre: float


def steps(learnt: Log, likes: bool) -> Steps:
    """Every step of every person."""
    ends = [(row, end) for row in range(len(learnt.items)) for end in range(1, len(learnt.items[row]))]
    centre = float(np.mean(np.concatenate(learnt.rewards)))
    state = _states(learnt, ends, centre if likes else None)
    following = np.concatenate([row[1:] for row in learnt.items])
    returns = np.concatenate([discounted(row, GAMMA)[1:] for row in learnt.rewards])
    return Steps(state, following, returns, centre)


def states(known: Log, centre: float | None) -> sparse.csr_matrix:
    """float32 (U, N), or (U, 2 N) with likes counted from ``centre``: where each person stands."""
    return _states(known, [(row, len(met)) for row, met in enumerate(known.items)], centre)


def _states(log: Log, ends: list[tuple[int, int]], centre: float | None) -> sparse.csr_matrix:
    weight = FADING ** np.arange(REMEMBERED)
    columns, values, counts = [], [], []
    for row, end in ends:
        start = max(0, end - REMEMBERED)
        met, fading = log.items[row][start:end], weight[: end - start][::-1]
        columns.append(met)
        values.append(fading)
        if centre is not None:
            columns.append(met + log.count)
            values.append(LIKES * fading * (log.rewards[row][start:end] - centre))
        counts.append(len(met) * (1 if centre is None else 2))
    where = np.concatenate([[0], np.cumsum(counts)])
    width = log.count * (1 if centre is None else 2)
    parts = np.concatenate(values).astype(np.float32), np.concatenate(columns), where
    return sparse.csr_matrix(parts, (len(ends), width))


def discounted(reward: np.ndarray, gamma: float) -> np.ndarray:
    """float64 (n,): sum_t gamma^t r_t from each step on."""
    found = np.asarray(reward, np.float64).copy()
    for at in range(len(found) - 2, -1, -1):
        found[at] += gamma * found[at + 1]
    return found


class Linear:
    """The closed form of one penalty: factored once, solved for any beta."""

    def __init__(self, log: Steps, items: int, penalty: float) -> None:
        gram = (log.state.T @ log.state).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += penalty
        self.log, self.items = log, items
        self.factor = linalg.cho_factor(gram, overwrite_a=True)

    def critic(self) -> np.ndarray:
        """float64 (N or 2 N,): v."""
        return linalg.cho_solve(self.factor, self.log.state.T @ self.log.returns)

    def actor(self, beta: float) -> np.ndarray:
        """float32 (N or 2 N, N): B."""
        count = len(self.log.following)
        weight = np.ones(count)
        if beta:
            gap = self.log.returns - self.log.state @ self.critic()
            weight = np.minimum(np.exp(beta * gap / (gap.std() or 1)), CAP)
        places = np.arange(count), self.log.following
        wanted = sparse.csr_matrix((weight / weight.mean(), places), (count, self.items))
        return linalg.cho_solve(self.factor, (self.log.state.T @ wanted).toarray()).astype(np.float32)

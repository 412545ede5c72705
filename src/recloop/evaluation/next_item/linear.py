"""A linear next-item model in closed form.

A state s is what was met lately, the item before last ``FADING`` times the last one: x_s in R^N. With X the
states of the log's every step and Y the one-hot items that came next,

    B = (X'X + penalty I)^-1 X'Y

the transition part of SLIST (Choi, Kim, Lee, Shim and Lee 2021, "Session-aware linear item-item models for
session-based recommendation", section 3.3) with states that remember more than one item.
"""

import numpy as np
from scipy import linalg, sparse

from recloop.evaluation.next_item.sequences import Log

FADING = 0.85  # weight of an item relative to the next newer one
REMEMBERED = 30  # items; what is older weighs less than 0.01
PENALTIES = (200.0, 500.0, 1000.0, 2000.0)


def fit(learnt: Log, penalty: float) -> np.ndarray:
    """float32 (N, N): B."""
    ends = [(row, end) for row in range(len(learnt.items)) for end in range(1, len(learnt.items[row]))]
    state = _states(learnt, ends)
    following = np.concatenate([row[1:] for row in learnt.items])
    wanted = sparse.csr_matrix(
        (np.ones(len(following)), (np.arange(len(following)), following)), (len(following), learnt.count)
    )
    gram = (state.T @ state).toarray().astype(np.float64)
    gram[np.diag_indices_from(gram)] += penalty
    factor = linalg.cho_factor(gram, overwrite_a=True)
    return linalg.cho_solve(factor, (state.T @ wanted).toarray()).astype(np.float32)


def states(known: Log) -> sparse.csr_matrix:
    """float32 (U, N): where each person stands."""
    return _states(known, [(row, len(met)) for row, met in enumerate(known.items)])


def _states(log: Log, ends: list[tuple[int, int]]) -> sparse.csr_matrix:
    weight = FADING ** np.arange(REMEMBERED)
    met = [log.items[row][max(0, end - REMEMBERED) : end] for row, end in ends]
    values = np.concatenate([weight[: len(row)][::-1] for row in met]).astype(np.float32)
    where = np.concatenate([[0], np.cumsum([len(row) for row in met])])
    return sparse.csr_matrix((values, np.concatenate(met), where), (len(ends), log.count))

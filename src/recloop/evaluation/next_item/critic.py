"""The reinforced head: the policy that imitates the log, improved by a critic.

The critic Q(s, i) = E[r | s, i] is fitted on the log's rewards: what an item is liked on average, how easily
the person likes, and what those who liked the same liked more than that,

    Q = q_i + b_u + sum_j e_uj B_ji      q_i = (sum_u r_ui + k mean r) / (n_i + k)

with e the rewards beyond q and b, and B the best weights without a diagonal (EASE on e: Steck 2019,
"Embarrassingly shallow autoencoders for sparse data", eq. 8). The head ranks by

    log mu(i | s) + beta log Q(s, i)

where mu imitates. For rewards of 0 and 1, beta = 1 is Bayes' rule: log p(i | s, liked) up to a constant, the
policy of one step of reward-weighted regression (Dayan and Hinton 1997, "Using expectation-maximization for
reinforcement learning"; Peters and Schaal 2007). A larger beta leans on the critic more; 0 imitates. Where mu
is right, a small beta lifts what is liked by its first order and costs hits by its second.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np

from recloop.evaluation.next_item.neighbours import best_weights, matrix
from recloop.evaluation.next_item.sequences import Log

SHRINKS = (10.0, 30.0, 100.0)  # k: acts that the mean reward counts for
PENALTIES = (20.0, 50.0, 150.0)
BETAS = (0.25, 0.5, 1.0, 2.0)
OWN = 10.0  # acts that a person's mean counts for
LEAST = 0.02  # reward that is expected of anything


@dataclass(frozen=True)
class Critic:
    """Expected rewards.

    Attributes:
        items: float64 (N,), q.
        weights: float32 (N, N), B.
    """

    items: np.ndarray
    weights: np.ndarray

    @classmethod
    def fit(cls, learnt: Log, shrink: float, penalty: float) -> Self:
        """On what was met and liked."""
        met, liked = matrix(learnt), matrix(learnt, learnt.rewards)
        mean = liked.sum() / met.sum()
        items = np.asarray((liked.sum(0) + shrink * mean) / (met.sum(0) + shrink)).ravel()
        beyond = _beyond(learnt, items)[0]
        return cls(items, best_weights(beyond.T @ beyond, penalty))

    def values(self, known: Log) -> np.ndarray:
        """float32 (U, N): Q of all items where each person stands, within [``LEAST``, 1]."""
        beyond, own = _beyond(known, self.items)
        found = self.items + own[:, None] + beyond @ self.weights
        return np.clip(found, LEAST, 1).astype(np.float32)


def _beyond(log: Log, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (U, N): e, 0 where nothing was met; float64 (U,): b."""
    gaps = [reward - items[met] for met, reward in zip(log.items, log.rewards, strict=True)]
    own = np.array([gap.sum() / (len(gap) + OWN) for gap in gaps])
    return matrix(log, [gap - b for gap, b in zip(gaps, own, strict=True)]).toarray(), own

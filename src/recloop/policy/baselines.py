"""Policies that learn nothing: what a learner has to beat."""

import numpy as np

from recloop.policy.retrieval import Observation
from recloop.policy.sampling import Sampler


def uniform(n_items: int, excluded: np.ndarray | None = None) -> Sampler:
    """Every slate is equally likely."""

    def score(observation: Observation) -> np.ndarray:
        return np.zeros((len(observation["profile"]), n_items), np.float32)

    return Sampler(score, temperature=1.0, exploration=1.0, excluded=excluded)


def most_popular(
    popularity: np.ndarray,
    temperature: float,
    exploration: float,
    excluded: np.ndarray | None = None,
    floor: float = 0.0,
) -> Sampler:
    """Scores an item by ``-log(rank)`` in float (N,) ``popularity``, the same for everyone."""
    rank = np.empty(len(popularity))
    rank[np.argsort(-popularity, kind="stable")] = np.arange(1, len(popularity) + 1)
    scores = -np.log(rank).astype(np.float32)

    def score(observation: Observation) -> np.ndarray:
        return np.broadcast_to(scores, (len(observation["profile"]), len(scores)))

    return Sampler(score, temperature, exploration, excluded, floor)

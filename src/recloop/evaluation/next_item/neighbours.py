"""Baselines that are told nothing of order: random, most popular, item neighbours, EASE."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse

from recloop.evaluation.next_item.sequences import Log


def matrix(log: Log, values: Sequence[np.ndarray] | None = None) -> sparse.csr_matrix:
    """float32 (U, N): where a person met an item 1, or what ``values``, a row per person, have there."""
    people = np.repeat(np.arange(len(log.items)), [len(row) for row in log.items])
    items = np.concatenate(log.items)
    found = np.ones(len(items)) if values is None else np.concatenate(values)
    return sparse.csr_matrix((found.astype(np.float32), (people, items)), (len(log.items), log.count))


def random(known: Log, seed: int) -> np.ndarray:
    """float32 (U, N): scores that mean nothing."""
    return np.random.default_rng(seed).random((len(known.items), known.count), np.float32)


def popular(learnt: Log, known: Log) -> np.ndarray:
    """float32 (U, N): how many people met each item."""
    counts = np.bincount(np.concatenate(learnt.items), minlength=known.count).astype(np.float32)
    return np.broadcast_to(counts, (len(known.items), known.count))


def cosine(learnt: Log, neighbours: int) -> np.ndarray:
    """float32 (N, N): cosine of the items' columns, each column's ``neighbours`` largest alone (Deshpande and
    Karypis 2004, "Item-based top-N recommendation algorithms", section 4)."""
    met = matrix(learnt)
    together = (met.T @ met).toarray()
    size = np.sqrt(np.maximum(together.diagonal(), 1))
    together /= size[:, None] * size
    np.fill_diagonal(together, 0)
    if neighbours < len(together):
        least = np.partition(together, -neighbours, axis=0)[-neighbours]
        together[together < least] = 0
    return together


def ease(learnt: Log, penalty: float) -> np.ndarray:
    """float32 (N, N): the best weights with which what was met tells what else was."""
    met = matrix(learnt)
    return best_weights((met.T @ met).toarray(), penalty)


def best_weights(gram: np.ndarray, penalty: float) -> np.ndarray:
    """float32 (N, N): B = I - P diag(1 / diag P), P = (G + penalty I)^-1 (Steck 2019, "Embarrassingly
    shallow autoencoders for sparse data", eq. 8), of float (N, N) G = X'X."""
    inverse = np.linalg.inv(gram.astype(np.float64) + penalty * np.eye(len(gram)))
    weights = inverse / -inverse.diagonal()
    np.fill_diagonal(weights, 0)
    return weights.astype(np.float32)


def by_items(known: Log, weights: np.ndarray) -> np.ndarray:
    """float32 (U, N): the sum of the known items' rows."""
    return matrix(known) @ weights


PENALTIES: Sequence[float] = (50, 100, 200, 500, 1000)
NEIGHBOURS: Sequence[int] = (20, 50, 100, 200)

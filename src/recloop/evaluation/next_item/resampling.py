"""Means and ratios with what they may be when people, and seeds, are drawn again (Efron's bootstrap, 1979).

Values are float (S, U, H): of every seed, person and hidden item. What one person did is not independent, so
whole people are drawn; values of as many people meet the same draws, so that ratios are paired.
"""

from functools import lru_cache

import numpy as np
from scipy import stats

DRAWS = 2000


def interval(name: str, values: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Mean of (S, U, H) weighted by (U, H), and its 95 % percentiles ``_low`` and ``_high``."""
    low, high = np.quantile(_drawn(values, weight), [0.025, 0.975])
    return {name: _mean(values, weight), f"{name}_low": float(low), f"{name}_high": float(high)}


def ratio(name: str, ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """The same of the ratio of two means."""
    low, high = np.quantile(_drawn(ours, weight) / np.maximum(_drawn(theirs, weight), 1e-12), [0.025, 0.975])
    found = _mean(ours, weight) / max(_mean(theirs, weight), 1e-12)
    return {name: found, f"{name}_low": float(low), f"{name}_high": float(high)}


def at_least(ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray, compared: int) -> float:
    """Below which the ratio of two means is not, at 95 % for ``compared`` ratios together (Bonferroni); the
    draws are taken as normal, since so far a tail has too few of them."""
    drawn = _drawn(ours, weight) / np.maximum(_drawn(theirs, weight), 1e-12)
    return float(drawn.mean() - stats.norm.isf(0.025 / compared) * drawn.std())


def by_person(values: np.ndarray, people: int) -> np.ndarray:
    """(..., U, H) of (..., U H)."""
    return values.reshape(*values.shape[:-1], people, -1)


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float((values.mean(0) * weight).sum() / weight.sum())


def _drawn(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float64 (DRAWS,): weighted means."""
    seeds, people, _ = values.shape
    counts = _counts(people, 0)
    luck = _counts(seeds, 1)
    sums = counts @ (values * weight).sum(2).T
    return (luck * sums).sum(1) / seeds / np.maximum(counts @ weight.sum(1), 1e-12)


@lru_cache
def _counts(size: int, stream: int) -> np.ndarray:
    """float64 (DRAWS, size): how often each of ``size`` is drawn in a resample."""
    rng = np.random.default_rng([stream, size])
    return rng.multinomial(size, np.full(size, 1 / size), DRAWS).astype(np.float64)

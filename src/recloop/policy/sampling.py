"""Slates drawn with exact propensities.

Item by item without replacement, each pick has the probability
``(1 - e) softmax(z / t) + e / |left|`` over the items left: Plackett-Luce (Plackett 1975, eq. 1)
mixed with a uniform floor, where z are the scores standardised over the allowed items.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Observation = dict[str, np.ndarray]
Scorer = Callable[[Observation], np.ndarray]


@dataclass(frozen=True)
class Slates:
    """B slates of k items.

    Attributes:
        items: int64 (B, k), item indices.
        propensities: float64 (B, k), each pick's probability given the picks before it.
        scores: float32 (B, k), the policy's scores of the items.
    """

    items: np.ndarray
    propensities: np.ndarray
    scores: np.ndarray


def _logits(scores: np.ndarray, temperature: float, excluded: np.ndarray | None) -> np.ndarray:
    """float64 (B, N): standardised over the allowed items, divided by t, -inf where excluded."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: the policy or its input is broken")
    allowed = np.ones(scores.shape, bool) if excluded is None else ~np.broadcast_to(excluded, scores.shape)
    count = np.maximum(allowed.sum(1, keepdims=True), 1)
    values = scores.astype(np.float64)
    centred = values - (values * allowed).sum(1, keepdims=True) / count
    spread = np.sqrt((centred**2 * allowed).sum(1, keepdims=True) / count)
    z = centred / np.where(spread > 1e-9, spread, 1) / temperature
    return np.where(allowed, z, -np.inf)


def _pick_probabilities(logits: np.ndarray, exploration: float) -> np.ndarray:
    left = np.isfinite(logits)
    weights = np.where(left, np.exp(logits - logits.max(1, keepdims=True)), 0)
    softmax = weights / weights.sum(1, keepdims=True)
    return (1 - exploration) * softmax + exploration * left / left.sum(1, keepdims=True)


def draw(
    scores: np.ndarray,
    k: int,
    rng: np.random.Generator,
    temperature: float,
    exploration: float,
    excluded: np.ndarray | None = None,
) -> Slates:
    """Draw slates from float (B, N) scores.

    A slate is as long as the most constrained row allows, at most k. ``excluded`` is bool (N,) or
    (B, N); an excluded item is never drawn.

    Raises:
        ValueError: scores are not finite, or a row has no item left.
    """
    logits = _logits(scores, temperature, excluded)
    k = min(k, int(np.isfinite(logits).sum(1).min()))
    if k < 1:
        raise ValueError("no item is left to recommend: all are excluded or sold out")
    rows = np.arange(len(scores))
    items = np.empty((len(scores), k), np.int64)
    chosen = np.empty((len(scores), k))
    for position in range(k):
        probability = _pick_probabilities(logits, exploration)
        cumulative = probability.cumsum(1)
        pick = (rng.random(len(scores))[:, None] * cumulative[:, -1:] >= cumulative).sum(1)
        items[:, position] = pick
        chosen[:, position] = probability[rows, pick]
        logits[rows, pick] = -np.inf
    return Slates(items, chosen, np.take_along_axis(scores, items, 1).astype(np.float32))


def propensities(
    scores: np.ndarray,
    slates: np.ndarray,
    temperature: float,
    exploration: float,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """float64 (B, k): how likely ``draw`` would have picked each item, given those before it.

    ``slates`` is int64 (B, k), padded with N; padding has propensity NaN.
    """
    logits = _logits(scores, temperature, excluded)
    rows = np.arange(len(scores))
    size = scores.shape[1]
    result = np.full(slates.shape, np.nan)
    for position in range(slates.shape[1]):
        pick = slates[:, position]
        real = pick < size
        alive = real & np.isfinite(logits).any(1)
        probability = _pick_probabilities(logits[alive], exploration)
        result[alive, position] = probability[np.arange(alive.sum()), pick[alive]]
        logits[rows[real], pick[real]] = -np.inf
    return result


@dataclass(frozen=True)
class Sampler:
    """A scorer with its way of drawing: what all policies and baselines have in common.

    Attributes:
        score: observation to float32 (B, N).
        temperature: t, above 0.
        exploration: e, the uniform share of each pick.
        excluded: bool (N,), never drawn (sold out).
    """

    score: Scorer
    temperature: float
    exploration: float
    excluded: np.ndarray | None = None

    def _excluded(self, exclude: np.ndarray | None) -> np.ndarray | None:
        if exclude is None or self.excluded is None:
            return self.excluded if exclude is None else exclude
        return self.excluded | exclude

    def slates(
        self, observation: Observation, k: int, rng: np.random.Generator, exclude: np.ndarray | None = None
    ) -> Slates:
        """Draw slates; ``exclude`` is bool (N,) or (B, N). See ``draw``."""
        scores = self.score(observation)
        return draw(scores, k, rng, self.temperature, self.exploration, self._excluded(exclude))

    def propensities(self, observation: Observation, slates: np.ndarray) -> np.ndarray:
        """How likely these slates would have been; see ``propensities``."""
        return propensities(
            self.score(observation), slates, self.temperature, self.exploration, self.excluded
        )

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
        ValueError: scores are not finite, k is below 1, or a row has no item left.
    """
    if k < 1:
        raise ValueError(f"a slate needs at least one item, not {k}")
    logits = _logits(scores, temperature, excluded)
    k = min(k, int((logits > -np.inf).sum(1).min(initial=logits.shape[1])))
    if k < 1:
        raise ValueError("no item is left to recommend: all are excluded or sold out")
    items = _picks(logits, k, rng, exploration)
    chosen = _probabilities(logits, items, exploration)
    return Slates(items, chosen, np.take_along_axis(scores, items, 1).astype(np.float32))


def propensities(
    scores: np.ndarray,
    slates: np.ndarray,
    temperature: float,
    exploration: float,
    excluded: np.ndarray | None = None,
) -> np.ndarray:
    """float64 (B, k): how likely ``draw`` would have picked each item, given those before it.

    ``slates`` is int64 (B, k), padded with N; padding has propensity NaN, an item that could not have
    been drawn (excluded, or a second time in one slate) has 0.
    """
    return _probabilities(_logits(scores, temperature, excluded), slates, exploration)


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

    def slates(
        self, observation: Observation, k: int, rng: np.random.Generator, exclude: np.ndarray | None = None
    ) -> Slates:
        """Draw slates; ``exclude`` is bool (N,) or (B, N). See ``draw``."""
        scores = self.score(observation)
        return draw(scores, k, rng, self.temperature, self.exploration, self._excluded(exclude))

    def propensities(
        self, observation: Observation, slates: np.ndarray, exclude: np.ndarray | None = None
    ) -> np.ndarray:
        """How likely these slates would have been; see ``propensities``."""
        scores = self.score(observation)
        return propensities(scores, slates, self.temperature, self.exploration, self._excluded(exclude))

    def _excluded(self, exclude: np.ndarray | None) -> np.ndarray | None:
        if exclude is None or self.excluded is None:
            return self.excluded if exclude is None else exclude
        return self.excluded | exclude


def _logits(scores: np.ndarray, temperature: float, excluded: np.ndarray | None) -> np.ndarray:
    """float64 (B, N): standardised over the allowed items, divided by t, -inf where excluded."""
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: the policy or its input is broken")
    values = scores.astype(np.float64)
    largest = np.abs(values).max(1, keepdims=True, initial=0)
    values /= np.where(largest > 0, largest, 1)  # so that squares cannot overflow
    if excluded is None:
        values -= values.mean(1, keepdims=True)
        spread = np.sqrt(np.square(values).mean(1, keepdims=True))
    else:
        allowed = ~np.broadcast_to(excluded, values.shape)
        count = np.maximum(allowed.sum(1, keepdims=True), 1)
        values -= np.where(allowed, values, 0).sum(1, keepdims=True) / count
        values[~allowed] = 0
        spread = np.sqrt(np.square(values).sum(1, keepdims=True) / count)
        values[~allowed] = -np.inf
    values /= np.where(spread > 1e-12, spread, 1) * temperature
    return values


def _picks(logits: np.ndarray, k: int, rng: np.random.Generator, exploration: float) -> np.ndarray:
    """int64 (B, k): the picks, from one race per row instead of one draw per position.

    The k largest Gumbel-perturbed logits, in order, are a Plackett-Luce draw (Yellott 1977; Kool et al.
    2019, "Stochastic beams and where to find them", section 2.3). Races are memoryless, so taking items
    away that a second, uniform race has picked leaves the first one's next pick distributed as it should.
    """
    noise = np.maximum(rng.standard_exponential(logits.shape), 1e-300)
    picks = _leaders(logits - np.log(noise), k)
    explores = rng.random(picks.shape) < exploration
    rows = np.flatnonzero(explores.any(1))
    if len(rows):
        uniform = np.where(logits[rows] > -np.inf, rng.random((len(rows), logits.shape[1])), -np.inf)
        picks[rows] = _merge(picks[rows], _leaders(uniform, k), explores[rows])
    return picks


def _leaders(keys: np.ndarray, k: int) -> np.ndarray:
    """int64 (B, k): the indices of the k largest keys, largest first."""
    top = np.argpartition(keys, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(keys, top, 1), axis=1)
    return np.take_along_axis(top, order, 1)


def _merge(first: np.ndarray, second: np.ndarray, use_second: np.ndarray) -> np.ndarray:
    """int64 (B, k): at each place the next item of one order or the other that is not taken yet."""
    merged = np.empty_like(first)
    rows = np.arange(len(first))
    for place in range(first.shape[1]):
        order = np.where(use_second[:, place, None], second, first)
        taken = (order[:, :, None] == merged[:, None, :place]).any(2)
        merged[:, place] = order[rows, taken.argmin(1)]
    return merged


def _probabilities(logits: np.ndarray, slates: np.ndarray, exploration: float) -> np.ndarray:
    """float64 (B, k): see ``propensities``.

    What is left before a pick is summed from the last pick backwards, in logs: subtracting the picks
    from the total instead would leave nothing but rounding once a dominant item is gone.
    """
    size = logits.shape[1]
    real = slates < size
    safe = np.where(real, slates, 0)
    repeated = np.tril(slates[:, :, None] == slates[:, None, :], -1).any(2)
    picked = np.where(real & ~repeated, np.take_along_axis(logits, safe, 1), -np.inf)
    possible = picked > -np.inf
    rest = logits.copy()
    row, place = np.nonzero(possible)
    rest[row, slates[row, place]] = -np.inf
    top = rest.max(1, keepdims=True)
    top[top == -np.inf] = 0
    with np.errstate(divide="ignore"):
        log_rest = np.log(np.exp(rest - top).sum(1, keepdims=True)) + top
    log_left = np.logaddexp.accumulate(np.hstack([log_rest, picked[:, ::-1]]), 1)[:, :0:-1]
    before: np.ndarray = np.cumsum(possible, 1) - possible
    left = np.maximum((logits > -np.inf).sum(1, keepdims=True) - before, 1)
    softmax = np.exp(picked - np.where(possible, log_left, 0))
    probability = np.minimum((1 - exploration) * softmax + exploration * possible / left, 1)
    return np.where(real, probability, np.nan)

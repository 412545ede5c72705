"""What each pick of a slate is drawn from, how it is drawn, and how likely it was.

Item by item without replacement, each pick has the probability
``(1 - e) softmax(z / t) + e / |left|``: Plackett-Luce (Plackett 1975, eq. 1) over the candidates left, mixed
with a uniform share over every allowed item left. The candidates are all allowed items, or some of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

TINY = 1e-300
PRECISE = 1e-3  # share of the weight that must be left for it to be found by subtraction


Barred = Callable[[np.ndarray, np.ndarray], np.ndarray]


class NothingLeft(ValueError):
    """Every item is excluded or sold out."""


@dataclass(frozen=True)
class Shares:
    """B requests with m candidates each, of a catalogue of N.

    Attributes:
        logits: float64 (B, m), z / t.
        allowed: float64 (B or 1, m), 1 or 0; None where all candidates are allowed.
        items: int64 (B, m), the candidates' items; None where column i is item i.
        size: N.
        count: int64 (B,), allowed items, candidates or not.
        exploration: float64 (B,), e.
        barred: of int64 (n,) rows and (n, c) items, bool (n, c): which are not allowed. None: all are.
    """

    logits: np.ndarray
    allowed: np.ndarray | None
    items: np.ndarray | None
    size: int
    count: np.ndarray
    exploration: np.ndarray
    barred: Barred | None

    @cached_property
    def weights(self) -> np.ndarray:
        """float64 (B, m): of the softmax, the largest about 1; 0 where not allowed."""
        weights = self.logits - self.logits.max(1, keepdims=True)
        np.exp(weights, out=weights)
        if self.allowed is not None:
            weights *= self.allowed
        return weights

    def draw(self, k: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """int64 (B, k) items, and float64 (B, k), the probability of each given those before it.

        Whether a place is drawn uniformly is decided beforehand. Both ways of drawing give an order of
        items, and a place takes the next of its order that is not taken yet: each order, given what the
        other has taken away, goes on as it would have gone on without.
        """
        columns = self._race(k, rng)
        items = columns if self.items is None else np.take_along_axis(self.items, columns, 1)
        explores = rng.random(items.shape) < self.exploration[:, None]
        every = np.ones(items.shape, bool)
        if not explores.any():
            return items, self._mixed(columns, every, every)
        items = items.copy()
        for row in np.flatnonzero(explores.any(1)).tolist():
            anything = self._uniformly(row, k, rng)
            items[row] = _merged(items[row].tolist(), anything, explores[row])
        columns = self._columns(items)
        return items, self._mixed(columns, columns >= 0, every)

    def probabilities(self, items: np.ndarray) -> np.ndarray:
        """float64 (B, k): how likely each item is picked, given those before it in int64 (B, k) ``items``.

        Padding (N) has NaN; what is not allowed, or stands there a second time, has 0.
        """
        real = items < self.size
        possible = real & ~np.tril(items[:, :, None] == items[:, None, :], -1).any(2)
        if self.barred is not None:
            possible &= ~self.barred(np.arange(len(items)), np.where(real, items, 0))
        columns = self._columns(np.where(real, items, -1))
        return np.where(real, self._mixed(columns, possible & (columns >= 0), possible), np.nan)

    def _mixed(self, columns: np.ndarray, near: np.ndarray, possible: np.ndarray) -> np.ndarray:
        """float64 (B, k), of bool (B, k) what can be picked as a candidate, and what can be picked at all."""
        weight = self.weights[np.arange(len(columns))[:, None], columns] * near
        total = self.weights.sum(1, keepdims=True)
        left = total - np.cumsum(weight, 1) + weight
        softmax = weight / np.maximum(left, TINY)
        for row in np.flatnonzero(((left < PRECISE * total) & near).any(1)).tolist():
            softmax[row] = self._log_softmax(row, columns[row], near[row])
        places = np.cumsum(possible, 1) - possible
        uniform = possible / np.maximum(self.count[:, None] - places, 1)
        e = self.exploration[:, None]
        return np.minimum((1 - e) * softmax + e * uniform, 1)

    def _columns(self, items: np.ndarray) -> np.ndarray:
        """int64 (B, k): where the items stand among the candidates, -1 for nowhere."""
        if self.items is None:
            return items
        same = items[:, :, None] == self.items[:, None, :]
        return np.where(same.any(2), same.argmax(2), -1)

    def _race(self, k: int, rng: np.random.Generator) -> np.ndarray:
        """int64 (B, k): columns in Plackett-Luce order.

        Exponential times divided by weights: the first k to arrive, in order, are a draw without
        replacement (Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir"; in logs the
        Gumbel-top-k of Kool et al. 2019). Where a weight is too small for a float the race is run in logs.
        """
        noise = np.maximum(rng.standard_exponential(self.logits.shape), TINY)
        speed = self.weights / noise
        columns = _leaders(speed, k)
        slow = np.flatnonzero(speed[np.arange(len(columns)), columns[:, -1]] < 1e20 * TINY)
        for row in slow.tolist():
            columns[row] = _leaders((self._left(row, []) - np.log(noise[row]))[None], k)[0]
        return columns

    def _left(self, row: int, taken: np.ndarray | list[int]) -> np.ndarray:
        """float64 (m,): logits, -inf where taken or not allowed."""
        left = self.logits[row].copy()
        if self.allowed is not None:
            left[self.allowed[row if len(self.allowed) > 1 else 0] == 0] = -np.inf
        left[taken] = -np.inf
        return left

    def _uniformly(self, row: int, k: int, rng: np.random.Generator) -> list[int]:
        """k different allowed items, all equally likely; fewer where there are fewer."""
        some = self._allowed(row, np.array(list(dict.fromkeys(rng.integers(0, self.size, 4 * k).tolist()))))
        if len(some) < k:
            some = rng.permutation(self._allowed(row, np.arange(self.size)))
        return some[:k].tolist()

    def _allowed(self, row: int, items: np.ndarray) -> np.ndarray:
        if self.barred is None:
            return items
        return items[~self.barred(np.array([row]), items[None])[0]]

    def _log_softmax(self, row: int, columns: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        """float64 (k,): what is left before a pick is summed from the last pick backwards, in logs.

        To subtract the picks from the total would leave rounding alone once a dominant item is gone.
        """
        picked = np.where(chosen, self.logits[row][columns], -np.inf)
        rest = np.logaddexp.reduce(self._left(row, columns[chosen]))
        left = np.logaddexp.accumulate(np.append(rest, picked[::-1]))[:0:-1]
        return np.exp(picked - np.where(chosen, left, 0))


def _leaders(keys: np.ndarray, k: int) -> np.ndarray:
    """int64 (B, k): the indices of the k largest keys, largest first."""
    top = np.argpartition(keys, -k, axis=1)[:, -k:]
    rows = np.arange(len(keys))[:, None]
    return top[rows, np.argsort(-keys[rows, top], axis=1)]


def _merged(first: list[int], second: list[int], use_second: np.ndarray) -> list[int]:
    """At each place the next item of one order or the other that is not taken yet."""
    merged: list[int] = []
    for explores in use_second:
        merged.append(next(item for item in (second if explores else first) if item not in merged))
    return merged


def uniform_share(exploration: float, floor: float, count: np.ndarray | int) -> np.ndarray:
    """float64, like ``count``: e, raised so that each of ``count`` allowed items has at least ``floor``.

    Raises:
        ValueError: the floor is more than an equal share.
    """
    if not floor:
        return np.full(np.shape(count), exploration)
    most = int(np.max(count, initial=0))
    if floor * most > 1:
        raise ValueError(
            f"serving.propensity_floor: {most} items of at least {floor:g} each add up to {floor * most:.3g},"
            f" more than 1. Set it to at most {1 / most:.3g}, or to 0"
        )
    return np.maximum(exploration, floor * np.asarray(count))


def standardised(scores: np.ndarray, temperature: float, allowed: np.ndarray | None) -> np.ndarray:
    """float64 (B, N): z / t of float (B, N) scores, over what float64 (B or 1, N) ``allowed`` is 1 for.

    Raises:
        ValueError: scores are not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if allowed is None:
            count = np.float64(scores.shape[1])
            values = scores.astype(np.float64)
            mean = values.sum(1, keepdims=True) / count
            values -= mean
        else:
            count = np.maximum(allowed.sum(1, keepdims=True), 1)
            values = scores * allowed
            mean = values.sum(1, keepdims=True) / count
            values -= mean
            values *= allowed
        spread = np.sqrt(np.einsum("ij,ij->i", values, values)[:, None] / count)
    if not np.isfinite(spread).all():
        largest = np.abs(scores.astype(np.float64)).max(1, keepdims=True, initial=0)
        if not np.isfinite(largest).all():
            raise ValueError("scores must be finite: the policy or its input is broken")
        return standardised(scores / np.maximum(largest, 1), temperature, allowed)  # squares overflowed
    alike = spread <= 1e-12 * np.abs(mean)  # what differs is rounding
    values *= np.where(alike, 0, 1 / (np.where(alike, 1, spread) * temperature))
    return values

"""Slates drawn with exact propensities, from scores of everything or of some candidates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from recloop.policy.retrieval import Found, Observation, Retriever
from recloop.policy.shares import NothingLeft, Shares, standardised, uniform_share

Scorer = Callable[[Observation], np.ndarray]
SCORES_AT_ONCE = 4_000_000  # held in memory at once


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
    floor: float = 0.0,
) -> Slates:
    """Draw slates from float (B, N) scores, standardised over the allowed items.

    A slate is as long as the most constrained row allows, at most k. ``excluded`` is bool (N,) or
    (B, N); an excluded item is never drawn. An allowed one has at least the propensity ``floor`` at
    every place: the uniform share is raised to floor times the allowed items where ``exploration`` is less.

    Raises:
        NothingLeft: a row has no item left.
        ValueError: scores are not finite, k is below 1, or the floor is more than an equal share.
    """
    shares = _all(scores, temperature, exploration, excluded, floor)
    items, chances = shares.draw(_length(k, shares.count), rng)
    return Slates(items, chances, _taken(scores, items))


def propensities(
    scores: np.ndarray,
    slates: np.ndarray,
    temperature: float,
    exploration: float,
    excluded: np.ndarray | None = None,
    floor: float = 0.0,
) -> np.ndarray:
    """float64 (B, k): how likely ``draw`` would have picked each item, given those before it.

    ``slates`` is int64 (B, k), padded with N; padding has propensity NaN, an item that could not have
    been drawn (excluded, or a second time in one slate) has 0.
    """
    return _all(scores, temperature, exploration, excluded, floor).probabilities(slates)


def _all(
    scores: np.ndarray, temperature: float, exploration: float, excluded: np.ndarray | None, floor: float
) -> Shares:
    """With every item as a candidate."""
    people, size = scores.shape
    if excluded is None or not excluded.any():
        count, allowed, barred = np.full(people, size), None, None
    else:
        mask = np.atleast_2d(excluded)
        allowed = (~mask).astype(np.float64)
        count = np.broadcast_to(size - np.count_nonzero(mask, 1), people)

        def barred(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
            return mask[rows[:, None] if len(mask) > 1 else 0, items]

    logits = standardised(scores, temperature, allowed)
    return Shares(logits, allowed, None, size, count, uniform_share(exploration, floor, count), barred)


def _length(k: int, count: np.ndarray) -> int:
    if k < 1:
        raise ValueError(f"a slate needs at least one item, not {k}")
    k = min(k, int(count.min(initial=k)))
    if k < 1:
        raise NothingLeft("no item is left to recommend: all are excluded or sold out")
    return k


@dataclass(frozen=True)
class Sampler:
    """A scorer with its way of drawing: what all policies and baselines have in common.

    Attributes:
        score: observation to float32 (B, N).
        temperature: t, above 0.
        exploration: e, the uniform share of each pick.
        excluded: bool (N,), never drawn (sold out).
        floor: least propensity of an allowed item; see ``draw``.
        retriever: finds the candidates of a catalogue that is too large to score all of it; its scores are
            standardised over what is not sold out. None: all are scored.
    """

    score: Scorer
    temperature: float
    exploration: float
    excluded: np.ndarray | None = None
    floor: float = 0.0
    retriever: Retriever | None = None

    def slates(
        self, observation: Observation, k: int, rng: np.random.Generator, exclude: np.ndarray | None = None
    ) -> Slates:
        """Draw slates; see ``draw``.

        ``exclude`` is int64 (n,) or (B, n): more items that must not be drawn, padded with N.
        """
        people = len(observation["profile"])
        if self.retriever is not None:
            k = _length(k, self._count(exclude, people))
        parts = []
        for rows, shares, scored in self._groups(observation, exclude, np.full(people, k)):
            items, chances = shares.draw(_length(k, shares.count), rng)
            parts.append((rows, Slates(items, chances, scored(items))))
        return parts[0][1] if len(parts) == 1 else _joined(parts, people)

    def propensities(
        self, observation: Observation, slates: np.ndarray, exclude: np.ndarray | None = None
    ) -> np.ndarray:
        """How likely these slates would have been; see ``propensities`` and ``slates``."""
        found = np.empty(slates.shape)
        lengths = (slates < (np.inf if self.excluded is None else len(self.excluded))).sum(1)
        for rows, shares, _ in self._groups(observation, exclude, lengths):
            found[rows] = shares.probabilities(slates[rows])
        return found

    def _groups(
        self, observation: Observation, exclude: np.ndarray | None, lengths: np.ndarray
    ) -> Iterator[tuple[np.ndarray, Shares, Callable[[np.ndarray], np.ndarray]]]:
        """Rows that are answered alike, what they are drawn from, and a way from items (B, k) to scores.

        A row is scored whole where its slate, of int64 (B,) ``lengths``, has more places than there are
        candidates.
        """
        rest = np.arange(len(lengths))
        if self.retriever is not None and len(rest):
            found = self.retriever.find(observation, exclude)
            near = np.flatnonzero(found.enough & (lengths <= self.retriever.candidates))
            if len(near):
                if len(near) < len(rest):
                    some = {name: x[near] for name, x in observation.items()}
                    found = self.retriever.find(some, _of_rows(exclude, near))
                yield near, self._some(found, _of_rows(exclude, near)), found.score
            rest = np.delete(rest, near)
            if not len(rest):
                return
        at_once = len(rest) if self.excluded is None else SCORES_AT_ONCE // len(self.excluded)
        for start in range(0, max(len(rest), 1), max(at_once, 1)):
            rows = rest[start : start + at_once]
            scores = self.score({name: x[rows] for name, x in observation.items()})
            excluded = self._excluded(_of_rows(exclude, rows), scores.shape[1])
            shares = _all(scores, self.temperature, self.exploration, excluded, self.floor)
            yield rows, shares, partial(_taken, scores)

    def _some(self, found: Found, exclude: np.ndarray | None) -> Shares:
        """With the candidates that were found."""
        assert self.excluded is not None
        sold_out, people = self.excluded, len(found.items)

        def barred(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
            hidden = sold_out[items]
            if exclude is not None:
                for row, mine, hers in zip(rows, items, hidden, strict=True):
                    hers |= np.isin(mine, exclude if exclude.ndim == 1 else exclude[row])
            return hidden

        level = np.where(found.spread > 1e-12 * np.abs(found.mean), found.spread, np.inf) * self.temperature
        logits = (found.scores - found.mean[:, None]) / level[:, None]
        count = self._count(exclude, people)
        share = uniform_share(self.exploration, self.floor, count)
        return Shares(logits, None, found.items, len(sold_out), count, share, barred)

    def _count(self, exclude: np.ndarray | None, people: int) -> np.ndarray:
        """int64 (B,): items that are neither sold out nor excluded."""
        assert self.excluded is not None
        listed = len(self.excluded) - int(np.count_nonzero(self.excluded))
        if exclude is None:
            return np.full(people, listed)
        hidden = [np.unique(row[row < len(self.excluded)]) for row in np.atleast_2d(exclude)]
        return np.full(people, [listed - int((~self.excluded[row]).sum()) for row in hidden])

    def _excluded(self, exclude: np.ndarray | None, size: int) -> np.ndarray | None:
        """bool (N,) or (B, N): sold out or excluded."""
        if exclude is None:
            return self.excluded
        mask = np.zeros((*exclude.shape[:-1], size + 1), bool)
        np.put_along_axis(mask, exclude, True, -1)
        return mask[..., :size] if self.excluded is None else mask[..., :size] | self.excluded


def _of_rows(exclude: np.ndarray | None, rows: np.ndarray) -> np.ndarray | None:
    return exclude if exclude is None or exclude.ndim == 1 else exclude[rows]


def _taken(scores: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.take_along_axis(scores, items, 1).astype(np.float32)


def _joined(parts: list[tuple[np.ndarray, Slates]], people: int) -> Slates:
    """In the order of the rows, as long as the shortest: a slate's beginning is a shorter slate."""
    k = min(part.items.shape[1] for _, part in parts)
    whole = Slates(np.empty((people, k), np.int64), np.empty((people, k)), np.empty((people, k), np.float32))
    for rows, part in parts:
        whole.items[rows] = part.items[:, :k]
        whole.propensities[rows] = part.propensities[:, :k]
        whole.scores[rows] = part.scores[:, :k]
    return whole

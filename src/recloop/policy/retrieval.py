"""Candidates of a large catalogue: the lists of items nearest to a query, scored exactly.

The scores of a two-tower policy are ``<query, vector of the item>``. The items on sale are divided into lists
around centres (an inverted file; Jégou et al. 2011, "Product quantization for nearest neighbor search",
section IV). A query looks through the lists whose centres have the largest inner products with it, until it
has seen ``SEEN`` lists' worth of items, and takes the best as candidates. Nothing is drawn: the same
query and the same excluded items give the same candidates. Whatever the lists miss, the probability of a
pick among the candidates is known exactly.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from tqdm import tqdm

Observation = dict[str, np.ndarray]
SEEN = 16  # lists of mean length whose items are scored, and twice the candidates at least
ROUNDS, SAMPLE = 8, 32  # of Lloyd's algorithm, and items for each list that it looks at
AT_ONCE = 8192  # rows in work
CHECKED = 256  # vectors that are held against the lists
AHEAD = 64  # lists that are put in order at first


@dataclass(frozen=True)
class Lists:
    """Items in lists; L lists, N items, D numbers each.

    Attributes:
        items: int64 (N,), the item of each row of the item matrix: list by list, then what is sold out.
        starts: int64 (L + 1,), the row with which each list begins, and the first row after all.
        centres: float32 (L, D).
    """

    items: np.ndarray
    starts: np.ndarray
    centres: np.ndarray

    def to_bytes(self) -> bytes:
        """As ``.npz``; equal lists give equal bytes."""
        out = io.BytesIO()
        np.savez(out, items=self.items, starts=self.starts, centres=self.centres)
        return out.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, width: int, sold_out: np.ndarray) -> Self:
        """What ``to_bytes`` gave, for D = ``width`` and bool (N,) ``sold_out``.

        Raises:
            ValueError: it is none, or not of these items.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                found = cls(file["items"], file["starts"], file["centres"])
        except (OSError, KeyError, EOFError) as error:
            raise ValueError(f"it cannot be read: {error}") from error
        items, starts, centres = found.items, found.starts, found.centres
        if [x.dtype for x in (items, starts, centres)] != [np.int64, np.int64, np.float32]:
            raise ValueError("its arrays are not int64, int64 and float32")
        if starts.ndim != 1 or len(starts) < 2 or centres.shape != (len(starts) - 1, width):
            raise ValueError(
                f"it has {starts.shape} starts and {centres.shape} centres for vectors of {width}"
            )
        if not np.array_equal(np.sort(items), np.arange(len(sold_out))):
            raise ValueError("it does not hold each item once")
        if starts[0] or (np.diff(starts) < 0).any() or starts[-1] != len(sold_out) - sold_out.sum():
            raise ValueError("its lists do not follow each other, or are not of what is available")
        if sold_out[items[: starts[-1]]].any():
            raise ValueError("its lists hold items that are not available")
        if not np.isfinite(centres).all():
            raise ValueError("its centres are not finite")
        return found

    def check(self, vectors: np.ndarray) -> None:
        """Raise ValueError if the centres are of other vectors than float32 (N, D), by some of them."""
        rows = np.linspace(0, self.starts[-1] - 1, CHECKED).astype(np.int64)
        held = np.searchsorted(self.starts, rows, "right") - 1
        if (_nearest(vectors[rows], self.centres) != held).mean() > 0.1:  # rounding may move a few
            raise ValueError("it was made for other vectors")


@dataclass(frozen=True)
class Found:
    """Candidates of B requests, m each.

    Attributes:
        items: int64 (B, m).
        scores: float32 (B, m).
        mean: float64 (B,), of the scores of all items on sale.
        spread: float64 (B,), their standard deviation.
        enough: bool (B,); False: too few candidates are left, and the row must be scored whole.
        score: int64 (B, k) items to their float32 (B, k) scores.
    """

    items: np.ndarray
    scores: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    enough: np.ndarray
    score: Callable[[np.ndarray], np.ndarray]


class Retriever:
    """Finds candidates among the items on sale.

    Attributes:
        candidates: m, for each request.
    """

    def __init__(
        self,
        query: Callable[[Observation], np.ndarray],
        vectors: np.ndarray,
        lists: Lists,
        candidates: int,
    ) -> None:
        """``query``: observation to float32 (B, D); ``vectors`` float32 (N, D) in the order of the lists."""
        self._query, self._vectors, self._lists = query, vectors, lists
        self._place = np.empty(len(vectors), np.int64)
        self._place[lists.items] = np.arange(len(vectors))
        self._sizes = np.diff(lists.starts)
        self._on_sale = int(lists.starts[-1])
        self.candidates = min(candidates, self._on_sale)
        self._mean, self._scatter = _moments(vectors[: self._on_sale])

    def find(self, observation: Observation, exclude: np.ndarray | None = None) -> Found:
        """Candidates that are not in int64 (n,) or (B, n) ``exclude``, padded with N.

        Raises:
            ValueError: a query is not finite.
        """
        queries = self._query(observation)
        if not np.isfinite(queries).all():
            raise ValueError("scores must be finite: the policy or its input is broken")
        people, m = len(queries), self.candidates
        items, scores = np.zeros((people, m), np.int64), np.zeros((people, m), np.float32)
        enough = np.zeros(people, bool)
        for row, query in enumerate(queries):
            hidden = None if exclude is None else exclude if exclude.ndim == 1 else exclude[row]
            items[row], scores[row] = self._best(query, hidden)
            enough[row] = np.isfinite(scores[row]).all()
        wide = queries.astype(np.float64)
        spread = np.sqrt(np.maximum(((wide @ self._scatter) * wide).sum(1), 0))

        def score(some: np.ndarray) -> np.ndarray:
            return (self._vectors[self._place[some]] @ queries[:, :, None])[:, :, 0]

        return Found(items, scores, wide @ self._mean, spread, enough, score)

    def _best(self, query: np.ndarray, hidden: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """int64 (m,) items and float32 (m,) scores, -inf for what is hidden."""
        starts, m = self._lists.starts, self.candidates
        near = self._near(query)
        ends = np.cumsum(self._sizes[near])
        scores = np.empty(ends[-1], np.float32)
        begin = 0
        for one, end in zip(near.tolist(), ends.tolist(), strict=True):
            np.matmul(self._vectors[starts[one] : starts[one + 1]], query, out=scores[begin:end])
            begin = end
        shift = starts[near] - ends + self._sizes[near]  # from a place among the scores to a row
        if hidden is not None:
            rows = self._place[hidden[hidden < len(self._place)]]
            for one, end, by in zip(near.tolist(), ends.tolist(), shift.tolist(), strict=True):
                scores[rows[(rows >= starts[one]) & (rows < end + by)] - by] = -np.inf
        top = np.argpartition(scores, -m)[-m:]
        return self._lists.items[top + shift[np.searchsorted(ends, top, "right")]], scores[top]

    def _near(self, query: np.ndarray) -> np.ndarray:
        """int64: the lists that are looked through, the nearest first."""
        mean = self._on_sale / len(self._sizes)
        wanted = min(max(round(SEEN * mean), 2 * self.candidates), self._on_sale)
        closeness = self._lists.centres @ query
        near = np.arange(len(closeness))
        if len(near) > AHEAD:
            near = np.argpartition(closeness, -AHEAD)[-AHEAD:]
            if self._sizes[near].sum() < wanted:
                near = np.arange(len(closeness))
        near = near[np.argsort(-closeness[near])]
        return near[: int(np.searchsorted(np.cumsum(self._sizes[near]), wanted)) + 1]


def build_lists(vectors: np.ndarray, sold_out: np.ndarray) -> Lists:
    """Lists of float32 (N, D) ``vectors``, without those of bool (N,) ``sold_out``.

    About 2 sqrt(N) lists by Lloyd's algorithm on some items; then each item joins its nearest centre.
    """
    listed = np.flatnonzero(~sold_out)
    rng = np.random.default_rng(0)
    size = min(round(2 * len(listed) ** 0.5), len(listed))
    some = vectors[np.sort(rng.choice(listed, min(SAMPLE * size, len(listed)), replace=False))]
    centres = some[np.sort(rng.choice(len(some), size, replace=False))]
    for _ in range(ROUNDS):
        nearest, total = _nearest(some, centres), np.zeros(centres.shape)
        np.add.at(total, nearest, some)
        held = np.bincount(nearest, minlength=size)[:, None]
        centres = np.where(held > 0, total / np.maximum(held, 1), centres).astype(np.float32)
    nearest = np.empty(len(listed), np.int64)
    quiet = len(listed) < 10 * AT_ONCE
    for start in tqdm(range(0, len(listed), AT_ONCE), "lists", mininterval=1, disable=quiet):
        nearest[start : start + AT_ONCE] = _nearest(vectors[listed[start : start + AT_ONCE]], centres)
    order = np.concatenate([listed[np.argsort(nearest, kind="stable")], np.flatnonzero(sold_out)])
    starts = np.concatenate([[0], np.cumsum(np.bincount(nearest, minlength=size))])
    return Lists(order.astype(np.int64), starts.astype(np.int64), centres)


def _nearest(vectors: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """int64 (n,): by Euclidean distance."""
    half = np.square(centres).sum(1) / 2
    parts = (vectors[start : start + AT_ONCE] for start in range(0, len(vectors), AT_ONCE))
    return np.concatenate([(part @ centres.T - half).argmax(1) for part in parts])


def _moments(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (D,) mean and (D, D) covariance: the mean and spread of all scores follow from them.

    Not by BLAS: its threads wait for each other at each of many small products, on a busy machine for long.
    """
    parts = range(0, len(vectors), AT_ONCE)
    mean = sum(vectors[i : i + AT_ONCE].sum(0, dtype=np.float64) for i in parts) / len(vectors)
    centred = (vectors[i : i + AT_ONCE] - mean for i in parts)
    return mean, sum(np.einsum("ni,nj->ij", part, part) for part in centred) / len(vectors)

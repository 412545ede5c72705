"""Candidates of a large catalogue: approximate nearest neighbours by inner product, scored exactly.

The scores of a two-tower policy are ``<query, vector of the item>``. A graph of neighbours (HNSW; Malkov and
Yashunin 2018, arXiv 1603.09320) over the inner product finds items of large scores and looks at a few
thousand only. The search is deterministic: the same query and the same excluded items give the same
candidates. Whatever the graph misses, the probability of a pick among its candidates is known exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import onnxruntime  # noqa: F401  before usearch: the other order ends the process with a segmentation fault
from tqdm import tqdm
from usearch.index import Index, MetricKind, ScalarKind

Observation = dict[str, np.ndarray]
CONNECTIVITY, EFFORT = 16, 64  # links of an item, and items weighed for each of them when the graph is built
AT_ONCE = 16_384  # rows of the item matrix in work
OVERFETCH = 10  # times the candidates that are asked for at most, where items are excluded
CHECKED = 256  # vectors of an index that are held against the matrix


@dataclass(frozen=True)
class Found:
    """Candidates of B requests, m each.

    Attributes:
        items: int64 (B, m).
        scores: float32 (B, m).
        mean: float64 (B,), of the scores of all items that are listed.
        spread: float64 (B,), their standard deviation.
        enough: bool (B,); False: too many items are excluded, and the row must be scored whole.
        queries: float32 (B, D).
        vectors: float32 (N, D), of all items.
    """

    queries: np.ndarray
    vectors: np.ndarray
    items: np.ndarray
    scores: np.ndarray
    mean: np.ndarray
    spread: np.ndarray
    enough: np.ndarray

    def score(self, items: np.ndarray) -> np.ndarray:
        """float32 (B, k): the scores of int64 (B, k) items."""
        return (self.vectors[items] @ self.queries[:, :, None])[:, :, 0]

    def of(self, rows: np.ndarray) -> Self:
        """Of some of the requests."""
        if len(rows) == len(self.items):
            return self
        parts = (self.items, self.scores, self.mean, self.spread, self.enough)
        return type(self)(self.queries[rows], self.vectors, *(part[rows] for part in parts))


class Retriever:
    """Finds candidates among the items that are listed.

    Attributes:
        candidates: m, for each request.
    """

    def __init__(
        self,
        query: Callable[[Observation], np.ndarray],
        vectors: np.ndarray,
        index: Index,
        listed: np.ndarray,
        candidates: int,
    ) -> None:
        """``query``: observation to float32 (B, D); float32 (N, D) ``vectors``; int64 (n,) ``listed`` items.

        Raises:
            ValueError: the index is not of these items' vectors.
        """
        self.candidates = min(candidates, len(listed))
        self._query, self._vectors, self._index = query, vectors, index
        self._mean, self._scatter = _moments(vectors, listed)
        _check(index, vectors, listed)

    def find(self, observation: Observation, exclude: np.ndarray | None = None) -> Found:
        """Candidates that are not in int64 (n,) or (B, n) ``exclude``.

        Raises:
            ValueError: a query is not finite.
        """
        queries = self._query(observation)
        if not np.isfinite(queries).all():
            raise ValueError("scores must be finite: the policy or its input is broken")
        people, m = len(queries), self.candidates
        items, scores = np.zeros((people, m), np.int64), np.zeros((people, m), np.float32)
        enough = np.zeros(people, bool)
        barred = None if exclude is None else np.broadcast_to(exclude, (people, exclude.shape[-1]))
        for row, query in enumerate(queries):
            found = self._nearest(query, None if barred is None else barred[row])
            if len(found) == m:
                items[row], scores[row], enough[row] = found, self._vectors[found] @ query, True
        wide = queries.astype(np.float64)
        spread = np.sqrt(np.maximum(np.einsum("bd,de,be->b", wide, self._scatter, wide), 0))
        return Found(queries, self._vectors, items, scores, wide @ self._mean, spread, enough)

    def _nearest(self, query: np.ndarray, barred: np.ndarray | None) -> np.ndarray:
        """int64 (m,), or fewer where they cannot be had for the effort."""
        m = self.candidates
        wanted = m if barred is None else m + len(barred)
        if wanted > OVERFETCH * m:
            return np.zeros(0, np.int64)
        keys = self._index.search(query, wanted).keys.astype(np.int64)
        return keys if barred is None else keys[~np.isin(keys, barred)][:m]


def build_index(vectors: np.ndarray, listed: np.ndarray, file: Path, threads: int = 1) -> None:
    """Write an index of float32 (N, D) ``vectors`` over int64 (n,) ``listed`` items; its keys are items.

    One thread gives equal bytes for equal vectors, several do not.
    """
    index = Index(
        ndim=vectors.shape[1],
        metric=MetricKind.IP,
        dtype=ScalarKind.BF16,
        connectivity=CONNECTIVITY,
        expansion_add=EFFORT,
    )
    with tqdm(
        total=len(listed), desc="index", unit=" items", mininterval=1, disable=len(listed) < AT_ONCE
    ) as bar:
        for start in range(0, len(listed), AT_ONCE):
            part = listed[start : start + AT_ONCE]
            index.add(part, np.ascontiguousarray(vectors[part]), threads=threads)
            bar.update(len(part))
    index.save(str(file))


def open_index(file: Path) -> Index:
    """An index as a view of its file, which stays on disk.

    Raises:
        ValueError: it is none.
    """
    index = Index.restore(str(file), view=True)
    if index is None:
        raise ValueError("it is no index of usearch")
    return index


def _moments(vectors: np.ndarray, listed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64 (D,) mean and (D, D) covariance: what the mean and spread of all scores follow from."""
    width = vectors.shape[1]
    total, square = np.zeros(width), np.zeros((width, width))
    for start in range(0, len(listed), AT_ONCE):
        total += vectors[listed[start : start + AT_ONCE]].sum(0, dtype=np.float64)
    mean = total / len(listed)
    for start in range(0, len(listed), AT_ONCE):
        part = vectors[listed[start : start + AT_ONCE]] - mean
        square += part.T @ part
    return mean, square / len(listed)


def _check(index: Index, vectors: np.ndarray, listed: np.ndarray) -> None:
    """That the index holds these items' vectors: all keys, and some of the vectors."""
    if index.ndim != vectors.shape[1] or len(index) != len(listed):
        raise ValueError(
            f"it holds {len(index)} vectors of {index.ndim} numbers, not {len(listed)} of {vectors.shape[1]}"
        )
    if index.metric_kind != MetricKind.IP:
        raise ValueError(f"it searches by {index.metric_kind}, not by the inner product")
    if not np.array_equal(np.sort(np.asarray(index.keys).astype(np.int64)), listed):
        raise ValueError("it holds other items than those that are available")
    some = listed[np.linspace(0, len(listed) - 1, min(CHECKED, len(listed))).astype(np.int64)]
    held, meant = np.array(index.get(some, ScalarKind.F32)), vectors[some]
    if not np.allclose(held, meant, rtol=0.01, atol=0.01 * float(np.abs(meant).max())):
        raise ValueError("it was built of other vectors")

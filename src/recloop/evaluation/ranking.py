"""Ranking metrics at k: how well the best k of a ranking find what a person went on to act on.

Definitions as in Järvelin and Kekäläinen 2002 (NDCG, binary gains) and Manning, Raghavan and
Schütze 2008, chapter 8 (precision, recall, F1, MAP, MRR). ``protocols`` says what is hidden and ranked.
"""

import numpy as np

ROWS_AT_ONCE = 4_000_000  # scores held in memory at once
NAMES = ("precision", "recall", "f1", "hit_rate", "mrr", "map", "ndcg")


def top_k(
    scores: np.ndarray, k: int, rng: np.random.Generator, excluded: np.ndarray | None = None
) -> np.ndarray:
    """int64 (B, k): the best items first, of float (B, N) scores, which are compared as float32.

    Ties fall at random, excluded items come last.
    """
    single = scores.astype(np.float32)
    apart = np.spacing(np.abs(single)).astype(np.float64)  # the least by which two scores can differ
    keys = single + 0.25 * apart * rng.random(single.shape)
    if excluded is not None:
        keys[np.broadcast_to(excluded, keys.shape)] = -np.inf
    k = min(k, keys.shape[1])
    top = np.argpartition(-keys, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(keys, top, 1), axis=1)
    return np.take_along_axis(top, order, 1)


def found_in(top: np.ndarray, targets: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """bool (B, k), which of int64 (B, k) ``top`` are among int64 (B, R) ``targets``, padded with N, and
    int64 (B,), how many targets there are. A target may stand twice: it counts once."""
    ordered = np.sort(targets, axis=1)
    real = ordered < n_items
    real[:, 1:] &= ordered[:, 1:] != ordered[:, :-1]
    hits = np.zeros(top.shape, bool)
    for column in range(targets.shape[1]):  # few: an array of (B, k, R) would not fit into memory
        hits |= top == np.where(targets[:, column] < n_items, targets[:, column], -1)[:, None]
    return hits, real.sum(1)


def per_person(hits: np.ndarray, count: np.ndarray) -> dict[str, np.ndarray]:
    """float64 (B,) each of ``NAMES``, of bool (B, k) hits and int64 (B,) numbers of relevant items.

    ``mrr`` is 0 when nothing is found in the k, ``map`` is divided by min(k, relevant).

    Raises:
        ValueError: somebody has no relevant item, so that recall has no meaning.
    """
    if (count == 0).any():
        raise ValueError(f"{int((count == 0).sum())} people have no relevant item: leave them out")
    k = hits.shape[1]
    place = np.arange(1, k + 1)
    discount = 1 / np.log2(place + 1)
    rows, columns = np.nonzero(hits)  # few, next to B times k
    rank = hits.cumsum(1, dtype=np.int32)[rows, columns]
    size = len(hits)
    found = np.bincount(rows, minlength=size).astype(float)
    best = np.minimum(count, k)
    first = np.bincount(rows, (rank == 1) / place[columns], size)
    return {
        "precision": found / k,
        "recall": found / count,
        "f1": 2 * found / (k + count),
        "hit_rate": (found > 0).astype(float),
        "mrr": first,
        "map": np.bincount(rows, rank / place[columns], size) / best,
        "ndcg": np.bincount(rows, discount[columns], size) / discount.cumsum()[best - 1],
    }


def means(people: dict[str, np.ndarray]) -> dict[str, float]:
    """Means over people; NaN when there is nobody."""
    return {name: float(values.mean()) if len(values) else float("nan") for name, values in people.items()}


def ranking_metrics(top: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Means over people of int64 (B, k) ``top`` judged by bool (B, N) ``relevant``.

    The names of ``NAMES``, and ``coverage``, the share of the N items in anybody's top. NaN when there is
    nobody.

    Raises:
        ValueError: somebody has no relevant item, so that recall has no meaning.
    """
    hits = np.take_along_axis(relevant, top, 1) if len(top) else np.zeros(top.shape, bool)
    return means(per_person(hits, relevant.sum(1))) | {"coverage": coverage(top, relevant.shape[1])}


def coverage(top: np.ndarray, n_items: int) -> float:
    """The share of the N items that stand in anybody's top; NaN when there is nobody."""
    return float((np.bincount(top.ravel(), minlength=n_items) > 0).mean()) if len(top) else float("nan")


def chunks(rows: int, width: int) -> list[slice]:
    """Slices of rows, small enough that rows times width floats fit into memory."""
    step = max(1, ROWS_AT_ONCE // max(1, width))
    return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]

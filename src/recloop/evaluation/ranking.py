"""Ranking metrics at k, and the leave-last-out protocol that feeds them.

Definitions as in Järvelin and Kekäläinen 2002 (NDCG, binary gains) and Manning, Raghavan and
Schütze 2008, chapter 8 (precision, recall, F1, MAP, MRR).
"""

from dataclasses import dataclass

import numpy as np

from recloop.features import Steps
from recloop.policy import Scorer

ROWS_AT_ONCE = 4_000_000  # scores held in memory at once


@dataclass(frozen=True)
class LastOut:
    """Of each person the last item acted on, and what was known before; B people, N items.

    Attributes:
        observation: what a policy sees, B rows.
        target: int64 (B,), the item to be found.
        consumed: bool (B, N), items acted on before, which are not ranked.
    """

    observation: dict[str, np.ndarray]
    target: np.ndarray
    consumed: np.ndarray


def leave_last_out(steps: Steps, n_items: int) -> LastOut:
    """Hide the last positive act of every person who has one."""
    positive = np.flatnonzero(steps.clicked >= 0)
    item = steps.slate[positive, steps.clicked[positive]]
    known = item < n_items
    positive, item = positive[known], item[known]
    user = steps.user[positive]
    last = np.append(user[1:] != user[:-1], True)[: len(user)]  # rows are ordered by person and time
    rows, target = positive[last], item[last]
    place = np.cumsum(last) - last
    consumed = np.zeros((len(rows), n_items + 1), bool)
    consumed[place, item] = True
    np.put_along_axis(consumed, steps.history[rows], True, 1)
    consumed[np.arange(len(rows)), target] = False
    observation = {name: x[rows] for name, x in steps.observation().items()}
    return LastOut(observation, target, consumed[:, :n_items])


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


def ranking_metrics(top: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """Means over people of int64 (B, k) ``top`` judged by bool (B, N) ``relevant``.

    ``precision``, ``recall``, ``f1``, ``hit_rate``, ``mrr`` (0 when nothing is found in the k), ``map``
    (divided by min(k, relevant)), ``ndcg``; ``coverage`` is the share of the N items in anybody's top.
    NaN when there is nobody.

    Raises:
        ValueError: somebody has no relevant item, so that recall has no meaning.
    """
    count = relevant.sum(1)
    if (count == 0).any():
        raise ValueError(f"{int((count == 0).sum())} people have no relevant item: leave them out")
    if not len(top):
        names = ("precision", "recall", "f1", "hit_rate", "mrr", "map", "ndcg", "coverage")
        return dict.fromkeys(names, float("nan"))
    k = top.shape[1]
    hits = np.take_along_axis(relevant, top, 1)
    place = np.arange(1, k + 1)
    found = hits.sum(1)
    best = np.minimum(count, k)
    discount = 1 / np.log2(place + 1)
    per_person = {
        "precision": found / k,
        "recall": found / count,
        "f1": 2 * found / (k + count),
        "hit_rate": found > 0,
        "mrr": (hits / place).max(1),
        "map": (hits * hits.cumsum(1) / place).sum(1) / best,
        "ndcg": (hits * discount).sum(1) / discount.cumsum()[best - 1],
    }
    metrics = {name: float(np.mean(values)) for name, values in per_person.items()}
    return metrics | {"coverage": len(np.unique(top)) / relevant.shape[1]}


def rank_last_out(
    score: Scorer, left_out: LastOut, k: int, seed: int, sold_out: np.ndarray | None = None
) -> dict[str, float]:
    """``people`` and metrics at k of a scorer that ranks all items but bool (N,) ``sold_out``.

    A hidden item that is sold out by now stays in the ranking.
    """
    people, size = left_out.consumed.shape
    relevant = np.zeros((people, size), bool)
    relevant[np.arange(people), left_out.target] = True
    excluded = left_out.consumed if sold_out is None else (left_out.consumed | sold_out) & ~relevant
    rng = np.random.default_rng([seed, 6])
    tops = [np.empty((0, min(k, size)), np.int64)]
    for part in chunks(people, size):
        scores = score({name: x[part] for name, x in left_out.observation.items()})
        tops.append(top_k(scores, k, rng, excluded[part]))
    return {"people": people} | ranking_metrics(np.concatenate(tops), relevant)


def chunks(rows: int, width: int) -> list[slice]:
    """Slices of rows, small enough that rows times width floats fit into memory."""
    step = max(1, ROWS_AT_ONCE // max(1, width))
    return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]

"""What a run of the benchmark says: means over seeds, intervals over people, ratios to the baseline."""

from functools import lru_cache
from typing import Any

import numpy as np

from recloop.evaluation.next_item.bench import TITLES, Result
from recloop.evaluation.next_item.sequences import K, Log, ndcg, ranks

BASELINE = "sasrec_bce"
DRAWS = 2000
PROTOCOL = (
    f"Leave-last-out, at {K}: of every person the last item is the test, the one before it the validation,"
    " the rest is learnt from. All items are ranked, without sampling, but those that the person met before."
    " Parameters, weights and when to stop are chosen on the validation. Figures are means over seeds;"
    " intervals at 95 % resample people and, where luck is involved, seeds."
)
FEW = " Here it is the last {held} of each, one after another, and as many before them, not one."
PUBLISHED = "on MovieLens 1M, not this log, by a like protocol: SASRec with BCE 0.134, with a softmax 0.18"


def figures(log: Log, found: dict[str, list[Result]]) -> list[dict[str, Any]]:
    """A row per model, ready for JSON.

    ``ndcg``, ``hit_rate`` and ``reward_ndcg`` (weighted by whether the hidden item was liked) with ``_low``
    and ``_high``, ``validation`` (NDCG), ``ratio`` (of NDCG to ``BASELINE``'s, with its interval), ``seeds``,
    what was ``chosen`` with the first seed, ``seconds`` per seed.
    """
    values = {name: _values(log, results) for name, results in found.items()}
    reward = _by_person(log, log.hidden("test")[1])
    base = values[BASELINE]
    return [
        {
            "model": name,
            "title": TITLES[name],
            "seeds": len(found[name]),
            **_interval("ndcg", one[0], _ones(reward)),
            **_interval("hit_rate", (one[0] > 0).astype(float), _ones(reward)),
            **_interval("reward_ndcg", one[0], reward),
            "validation": float(one[1].mean()),
            **_ratio("ratio", one[0], base[0], _ones(reward)),
            "seconds": float(np.mean([result.seconds for result in found[name]])),
            "chosen": found[name][0].chosen,
        }
        for name, one in values.items()
    ]


def head(log: Log, found: dict[str, list[Result]]) -> dict[str, float]:
    """The reinforced head to what it stands on: ratios of NDCG and of reward-weighted NDCG, paired."""
    ours, reinforced = (_values(log, found[name])[0] for name in ("ours", "ours_reinforced"))
    reward = _by_person(log, log.hidden("test")[1])
    return _ratio("ndcg", reinforced, ours, _ones(reward)) | _ratio("reward_ndcg", reinforced, ours, reward)


def _values(log: Log, results: list[Result]) -> tuple[np.ndarray, np.ndarray]:
    """float64 (S, U, H) each: NDCG of every seed, person and hidden item, in test and validation."""
    parts = []
    for part in ("test", "validation"):
        known, target = log.known(part), log.hidden(part)[0]  # type: ignore[arg-type]
        parts.append(np.stack([ndcg(ranks(getattr(one, part), known, target)) for one in results]))
    return _by_person(log, parts[0]), _by_person(log, parts[1])


def _by_person(log: Log, values: np.ndarray) -> np.ndarray:
    """(..., U, H) of (..., U H)."""
    return values.reshape(*values.shape[:-1], len(log.items), -1)


def _ones(reward: np.ndarray) -> np.ndarray:
    return np.ones(reward.shape)


def _interval(name: str, values: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """Weighted mean of float (S, U, H) and the percentiles of its bootstrap over people and seeds."""
    low, high = np.quantile(_drawn(values, weight), [0.025, 0.975])
    return {name: _mean(values, weight), f"{name}_low": float(low), f"{name}_high": float(high)}


def _ratio(name: str, ours: np.ndarray, theirs: np.ndarray, weight: np.ndarray) -> dict[str, float]:
    """The same of the ratio of two means, of the same people in every draw."""
    low, high = np.quantile(_drawn(ours, weight) / np.maximum(_drawn(theirs, weight), 1e-12), [0.025, 0.975])
    ratio = _mean(ours, weight) / max(_mean(theirs, weight), 1e-12)
    return {name: ratio, f"{name}_low": float(low), f"{name}_high": float(high)}


def _mean(values: np.ndarray, weight: np.ndarray) -> float:
    return float((values.mean(0) * weight).sum() / weight.sum())


def _drawn(values: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """float64 (DRAWS,): weighted means of float (S, U, H); values of as many people meet the same draws."""
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

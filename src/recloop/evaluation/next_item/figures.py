"""What a run of the benchmark says: means over seeds, intervals over people, ratios to the baseline."""

from typing import Any

import numpy as np

from recloop.evaluation.next_item.bench import TITLES, Result
from recloop.evaluation.next_item.resampling import by_person, interval, ratio
from recloop.evaluation.next_item.sequences import K, Log, ndcg, ranks

BASELINE = "sasrec_bce"
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
    reward = by_person(log.hidden("test")[1], len(log.items))
    base = values[BASELINE]
    return [
        {
            "model": name,
            "title": TITLES[name],
            "seeds": len(found[name]),
            **interval("ndcg", one[0], _ones(reward)),
            **interval("hit_rate", (one[0] > 0).astype(float), _ones(reward)),
            **interval("reward_ndcg", one[0], reward),
            "validation": float(one[1].mean()),
            **ratio("ratio", one[0], base[0], _ones(reward)),
            "seconds": float(np.mean([result.seconds for result in found[name]])),
            "chosen": found[name][0].chosen,
        }
        for name, one in values.items()
    ]


def head(log: Log, found: dict[str, list[Result]]) -> dict[str, float]:
    """The reinforced head to what it stands on: ratios of NDCG and of reward-weighted NDCG, paired."""
    ours, reinforced = (_values(log, found[name])[0] for name in ("ours", "ours_reinforced"))
    reward = by_person(log.hidden("test")[1], len(log.items))
    return ratio("ndcg", reinforced, ours, _ones(reward)) | ratio("reward_ndcg", reinforced, ours, reward)


def _values(log: Log, results: list[Result]) -> tuple[np.ndarray, np.ndarray]:
    """float64 (S, U, H) each: NDCG of every seed, person and hidden item, in test and validation."""
    parts = []
    for part in ("test", "validation"):
        known, target = log.known(part), log.hidden(part)[0]  # type: ignore[arg-type]
        parts.append(np.stack([ndcg(ranks(getattr(one, part), known, target)) for one in results]))
    people = len(log.items)
    return by_person(parts[0], people), by_person(parts[1], people)


def _ones(reward: np.ndarray) -> np.ndarray:
    return np.ones(reward.shape)

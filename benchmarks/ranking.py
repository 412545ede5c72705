"""Ranking metrics at 10: all eight of ours beside scikit-learn's NDCG alone."""

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from sklearn.metrics import ndcg_score

from benchmarks.race import SEED, Row, main, race
from recloop.evaluation import ranking_metrics, top_k

K = 10


def cases(repeats: int) -> Iterator[Row]:
    """Catalogues of growing size; both must agree on NDCG before anything is timed."""
    for people, items in ((20_000, 100), (5_000, 1_000), (500, 20_000)):
        rng = np.random.default_rng(SEED)
        scores = rng.standard_normal((people, items)).astype(np.float32)
        relevant = np.zeros((people, items), bool)
        relevant[np.arange(people)[:, None], rng.integers(0, items, (people, 3))] = True

        def ours(scores: np.ndarray = scores, relevant: np.ndarray = relevant) -> float:
            return ranking_metrics(top_k(scores, K, np.random.default_rng(SEED)), relevant)["ndcg"]

        def theirs(scores: np.ndarray = scores, relevant: np.ndarray = relevant) -> float:
            return ndcg_score(relevant, scores, k=K, ignore_ties=True)

        if abs(ours() - theirs()) > 1e-9:
            raise SystemExit(f"the two disagree: {ours()} and {theirs()}")
        case = f"{people:,} people, {items:,} items"
        yield race(case, ours, f"scikit-learn {version('scikit-learn')}", theirs, people, "people/s", repeats)


if __name__ == "__main__":
    main(cases, __doc__)

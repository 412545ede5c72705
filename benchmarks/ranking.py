"""Ranking metrics at 10: all of ours beside scikit-learn's NDCG alone, and beside trec_eval's six."""

import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytrec_eval
from sklearn.metrics import ndcg_score

from benchmarks.race import SEED, Row, main, race
from recloop.evaluation import ranking_metrics, top_k
from recloop.evaluation.ranking import found_in, means, per_person

K = 10
TREC = {f"ndcg_cut_{K}", f"P_{K}", f"recall_{K}", f"map_cut_{K}", "recip_rank", f"success_{K}"}


def cases(repeats: int) -> Iterator[Row]:
    """Catalogues of growing size, then a million people; peers must agree on NDCG before any is timed."""
    for people, items in ((20_000, 100), (5_000, 1_000), (500, 20_000)):
        rng = np.random.default_rng(SEED)
        scores = rng.standard_normal((people, items)).astype(np.float32)
        relevant = np.zeros((people, items), bool)
        relevant[np.arange(people)[:, None], rng.integers(0, items, (people, 3))] = True

        def ours(scores: np.ndarray = scores, relevant: np.ndarray = relevant) -> float:
            return ranking_metrics(top_k(scores, K, np.random.default_rng(SEED)), relevant)["ndcg"]

        def theirs(scores: np.ndarray = scores, relevant: np.ndarray = relevant) -> float:
            return ndcg_score(relevant, scores, k=K, ignore_ties=True)

        _agree(ours(), theirs())
        case = f"{people:,} people, {items:,} items"
        yield race(case, ours, f"scikit-learn {version('scikit-learn')}", theirs, people, "people/s", repeats)
    yield ranked(1_000_000, 5_000, repeats)


def ranked(people: int, items: int, repeats: int) -> Row:
    """Rankings that are there already. Both race on a twentieth of the people, whom trec_eval gets as its
    dictionaries; then we alone take all of them, whose seconds the case names."""
    rng = np.random.default_rng(SEED)
    top = rng.integers(0, items - K, (people, 1)) + rng.permuted(np.tile(np.arange(K), (people, 1)), axis=1)
    targets = top[:, :3] + rng.integers(0, 8, (people, 3))
    few = people // 20
    asked = {str(u): {str(i): 1 for i in set(row)} for u, row in enumerate(targets[:few].tolist())}
    run = {
        str(u): {str(i): float(K - place) for place, i in enumerate(row)}
        for u, row in enumerate(top[:few].tolist())
    }
    judge = pytrec_eval.RelevanceEvaluator(asked, TREC)

    def ours(count: int = people) -> float:
        return means(per_person(*found_in(top[:count], targets[:count], items + 10)))["ndcg"]

    def theirs() -> float:
        found = judge.evaluate(run)
        return float(np.mean([one[f"ndcg_cut_{K}"] for one in found.values()]))

    _agree(ours(few), theirs())
    peer = f"pytrec_eval {version('pytrec-eval-terrier')}"
    case = f"{people:,} people, their best {K} given"
    row = race(case, lambda: ours(few), peer, theirs, few, "people/s", repeats)
    began = time.perf_counter()
    ours()
    seconds = time.perf_counter() - began
    return replace(row, case=f"{case}: {seconds:.1f} s")


def _agree(ours: float, theirs: float) -> None:
    if abs(ours - theirs) > 1e-9:
        raise SystemExit(f"the two disagree: {ours} and {theirs}")


if __name__ == "__main__":
    main(cases, __doc__)

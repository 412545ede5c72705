"""Ranking metrics: known answers, scikit-learn's NDCG, and one person at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from recloop.evaluation import leave_last_out, rank_last_out, ranking_metrics, top_k
from recloop.features import Steps


def one_by_one(top: np.ndarray, relevant: np.ndarray) -> dict[str, float]:
    """The definitions, a person and a place at a time."""
    rows = []
    for items, likes in zip(top.tolist(), relevant, strict=True):
        liked = set(np.flatnonzero(likes).tolist())
        found = [item in liked for item in items]
        precision, recall = sum(found) / len(items), sum(found) / len(liked)
        rows.append(
            {
                "precision": precision,
                "recall": recall,
                "f1": 2 * precision * recall / (precision + recall) if any(found) else 0.0,
                "hit_rate": float(any(found)),
                "mrr": 1 / (found.index(True) + 1) if any(found) else 0.0,
                "map": sum(sum(found[: i + 1]) / (i + 1) for i, hit in enumerate(found) if hit)
                / min(len(items), len(liked)),
                "ndcg": sum(1 / math.log2(i + 2) for i, hit in enumerate(found) if hit)
                / sum(1 / math.log2(i + 2) for i in range(min(len(items), len(liked)))),
            }
        )
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def test_known_answers() -> None:
    """The first person's two likes come at places 1 and 3, the second's one like at none."""
    top = np.array([[4, 1, 0], [2, 3, 1]])
    relevant = np.zeros((2, 5), bool)
    relevant[0, [4, 0]] = relevant[1, 0] = True
    metrics = ranking_metrics(top, relevant)
    assert metrics["precision"] == pytest.approx((2 / 3) / 2)
    assert metrics["recall"] == pytest.approx(1 / 2)
    assert metrics["f1"] == pytest.approx((4 / 5) / 2)
    assert metrics["hit_rate"] == pytest.approx(1 / 2)
    assert metrics["mrr"] == pytest.approx(1 / 2)
    assert metrics["map"] == pytest.approx((1 + 2 / 3) / 2 / 2)
    assert metrics["ndcg"] == pytest.approx((1 + 0.5) / (1 + 1 / math.log2(3)) / 2)
    assert metrics["coverage"] == 1.0


@settings(deadline=None, max_examples=100)
@given(
    people=st.integers(1, 6), items=st.integers(1, 12), k=st.integers(1, 12), seed=st.integers(0, 2**32 - 1)
)
def test_all_people_at_once_equal_one_by_one(people: int, items: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    relevant = rng.random((people, items)) < 0.4
    relevant[np.arange(people), rng.integers(0, items, people)] = True
    top = top_k(rng.standard_normal((people, items)), min(k, items), rng)
    metrics = ranking_metrics(top, relevant)
    for name, value in one_by_one(top, relevant).items():
        assert metrics[name] == pytest.approx(value, abs=1e-12), name
    assert metrics["coverage"] == len(set(top.ravel().tolist())) / items


def test_agreement_with_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    relevant = rng.random((50, 40)) < 0.2
    relevant[:, 0] |= ~relevant.any(1)
    scores = rng.standard_normal((50, 40))
    metrics = ranking_metrics(top_k(scores, 10, rng), relevant)
    assert metrics["ndcg"] == pytest.approx(ndcg_score(relevant, scores, k=10), rel=1e-12)
    whole = ranking_metrics(top_k(scores, 40, rng), relevant)
    precision = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    assert whole["map"] == pytest.approx(np.mean(precision), rel=1e-12)


def test_nobody_gives_no_number_and_nothing_relevant_is_refused() -> None:
    empty = ranking_metrics(np.zeros((0, 3), np.int64), np.zeros((0, 5), bool))
    assert all(math.isnan(value) for value in empty.values())
    with pytest.raises(ValueError, match="1 people have no relevant item"):
        ranking_metrics(np.array([[0], [1]]), np.array([[True, False], [False, False]]))


def test_ties_fall_at_random_and_excluded_items_come_last() -> None:
    rng = np.random.default_rng(0)
    first = top_k(np.zeros((6000, 3)), 1, rng)[:, 0]
    assert (np.abs(np.bincount(first, minlength=3) - 2000) < 200).all()
    excluded = np.array([[True, False, True, False]])
    assert top_k(np.array([[9.0, 1.0, 8.0, 2.0]]), 4, rng, excluded)[0, :2].tolist() == [3, 1]


def steps(rows: list[tuple[int, list[int], list[int], int]], n_items: int) -> Steps:
    """Requests of (person, history, slate, place clicked)."""
    count = len(rows)
    slate = np.array([row[2] for row in rows])
    user = np.array([row[0] for row in rows])
    return Steps(
        user=user,
        session=np.arange(count),
        ts=np.arange(count),
        profile=np.arange(count, dtype=np.float32)[:, None],
        context=np.zeros((count, 1), np.float32),
        history=np.array([row[1] for row in rows]),
        slate=slate,
        propensity=np.full(slate.shape, 0.5),
        position=np.tile(np.arange(slate.shape[1]), (count, 1)),
        clicked=np.array([row[3] for row in rows]),
        reward=np.ones(count, np.float32),
        done=np.ones(count, bool),
    )


LOG = [
    (0, [5, 5], [0, 1], 0),
    (0, [0, 5], [1, 2], 1),  # the last act of person 0: item 2, seen without row 0's item
    (0, [2, 0], [3, 4], -1),
    (1, [5, 5], [0, 1], -1),  # person 1 never acts
    (2, [3, 1], [4, 1], 1),  # the last act of person 2: item 1 again
]


def test_leave_last_out_hides_the_last_act_only() -> None:
    left_out = leave_last_out(steps(LOG, 5), 5)
    assert left_out.target.tolist() == [2, 1]
    assert left_out.observation["profile"][:, 0].tolist() == [1, 4]
    assert left_out.consumed.tolist() == [
        [True, False, False, False, False],
        [False, False, False, True, False],  # item 1 was consumed before, yet it is the target
    ]


def test_the_whole_catalogue_is_ranked_without_what_was_consumed() -> None:
    left_out = leave_last_out(steps(LOG, 5), 5)

    def score(observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.array([9.0, 3.0, 5.0, 8.0, 4.0]), (len(observation["profile"]), 1))

    # Person 0: 0 was consumed, so 3 comes first and 2 second. Person 2: 0, 2, 4, 1 (3 was consumed).
    metrics = rank_last_out(score, left_out, 3, seed=0)
    assert metrics["hit_rate"] == 0.5
    assert metrics["people"] == 2
    assert metrics["mrr"] == pytest.approx(0.5 / 2)
    sold_out = np.array([True, False, True, True, False])  # 2 is a target, so it stays
    metrics = rank_last_out(score, left_out, 3, seed=0, sold_out=sold_out)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_log_without_acts_leaves_nobody() -> None:
    quiet = leave_last_out(steps([(*row[:3], -1) for row in LOG], 5), 5)
    metrics = rank_last_out(lambda o: np.zeros((len(o["profile"]), 5)), quiet, 3, 0)
    assert math.isnan(metrics["ndcg"])

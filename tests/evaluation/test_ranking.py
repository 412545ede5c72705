"""Ranking metrics: known answers, scikit-learn's NDCG, and one person at a time."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score

from recloop.evaluation import leave_last_out, rank_all, ranking_metrics, time_split, top_k
from recloop.evaluation.ranking import found_in, means, per_person
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


def test_agreement_with_trec_eval_person_by_person() -> None:
    """NIST's own program, by its Python binding; its MAP divides by all that is relevant: k covers them."""
    pytrec_eval = pytest.importorskip("pytrec_eval", reason="the peer is an extra of development")
    rng = np.random.default_rng(3)
    people, items, k = 200, 60, 10
    relevant = rng.random((people, items)) < 0.05
    relevant[:, 0] |= ~relevant.any(1)
    scores = rng.permuted(np.tile(np.arange(items, dtype=float), (people, 1)), axis=1)
    top = top_k(scores, k, rng)
    assert relevant.sum(1).max() <= k
    asked = {str(u): {str(i): 1 for i in np.flatnonzero(row)} for u, row in enumerate(relevant)}
    found = {str(u): {str(i): float(k - place) for place, i in enumerate(row)} for u, row in enumerate(top)}
    names = {"ndcg": f"ndcg_cut_{k}", "precision": f"P_{k}", "recall": f"recall_{k}", "map": f"map_cut_{k}"}
    names |= {"mrr": "recip_rank", "hit_rate": f"success_{k}"}
    theirs = pytrec_eval.RelevanceEvaluator(asked, {*names.values()}).evaluate(found)
    ours = per_person(np.take_along_axis(relevant, top, 1), relevant.sum(1))
    for name, peer in names.items():
        wanted = [theirs[str(u)][peer] for u in range(people)]
        np.testing.assert_allclose(ours[name], wanted, atol=1e-9, err_msg=name)
    precision, recall = (np.array([theirs[str(u)][names[n]] for u in range(people)]) for n in names if n in
                         ("precision", "recall"))  # fmt: skip
    f1 = np.divide(2 * precision * recall, precision + recall, where=recall > 0, out=np.zeros(people))
    np.testing.assert_allclose(ours["f1"], f1, atol=1e-9)


@settings(deadline=None, max_examples=50)
@given(
    people=st.integers(1, 5), items=st.integers(2, 9), width=st.integers(1, 6), seed=st.integers(0, 2**32 - 1)
)
def test_targets_as_lists_say_what_a_matrix_says(people: int, items: int, width: int, seed: int) -> None:
    """Padding and a target that stands twice change nothing."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, items + 1, (people, width))
    targets[:, 0] = rng.integers(0, items, people)
    relevant = np.zeros((people, items + 1), bool)
    np.put_along_axis(relevant, targets, True, 1)
    top = top_k(rng.standard_normal((people, items)), min(4, items), rng)
    hits, count = found_in(top, targets, items)
    np.testing.assert_array_equal(count, relevant[:, :items].sum(1))
    expected = ranking_metrics(top, relevant[:, :items])
    for name, value in means(per_person(hits, count)).items():
        assert value == pytest.approx(expected[name], abs=1e-12)


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
    assert left_out.targets.tolist() == [[2], [1]]
    assert left_out.observation["profile"][:, 0].tolist() == [1, 4]
    assert left_out.consumed(slice(0, 2)).tolist() == [
        [True, False, False, False, False],
        [False, False, False, True, False],  # item 1 was consumed before, yet it is the target
    ]


def test_the_whole_catalogue_is_ranked_without_what_was_consumed() -> None:
    left_out = leave_last_out(steps(LOG, 5), 5)

    def score(observation: dict[str, np.ndarray]) -> np.ndarray:
        return np.tile(np.array([9.0, 3.0, 5.0, 8.0, 4.0]), (len(observation["profile"]), 1))

    # Person 0: 0 was consumed, so 3 comes first and 2 second. Person 2: 0, 2, 4, 1 (3 was consumed).
    metrics = rank_all(score, left_out, 3, seed=0)
    assert metrics["hit_rate"] == 0.5
    assert metrics["people"] == 2
    assert metrics["mrr"] == pytest.approx(0.5 / 2)
    sold_out = np.array([True, False, True, True, False])  # 2 is a target, so it stays
    metrics = rank_all(score, left_out, 3, seed=0, sold_out=sold_out)
    assert metrics["mrr"] == pytest.approx((1 + 1 / 2) / 2)


def test_a_time_split_hides_all_that_is_new_after_it() -> None:
    log = [
        (0, [5, 5], [0, 1], 0),  # time 0
        (0, [0, 5], [1, 2], -1),  # 1
        (0, [0, 5], [1, 2], 1),  # 2: the first request after the split; acts on item 2
        (0, [2, 0], [0, 4], 0),  # 3: item 0 again: not new
        (0, [0, 2], [3, 4], 1),  # 4: item 4
        (1, [5, 5], [3, 1], 0),  # 5: a person who comes after the split only
        (2, [1, 5], [1, 0], 0),  # 6: item 1 was in the history already: nothing new, left out
    ]
    rows = steps(log, 5)
    hidden = time_split(rows, 5, 2)
    assert hidden.rows.tolist() == [2, 5]
    assert hidden.targets.tolist() == [[2, 4], [3, 5]]
    assert hidden.observation["history"].tolist() == [[0, 5], [5, 5]]
    assert hidden.consumed(slice(0, 2)).tolist() == [[True, *[False] * 4], [False] * 5]
    assert len(time_split(rows, 5, 7)) == 0
    assert time_split(rows, 5, 0).targets.tolist() == [[0, 2, 4], [3, 5, 5]]


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), at=st.integers(-1, 26))
def test_a_time_split_person_by_person(seed: int, at: int) -> None:
    rng, n_items = np.random.default_rng(seed), 6
    log, histories = [], {person: [n_items] * 2 for person in range(4)}
    for person in np.sort(rng.integers(0, 4, 25)).tolist():
        slate, place = rng.permutation(n_items)[:2].tolist(), int(rng.integers(-1, 2))
        log.append((person, list(histories[person]), slate, place))
        if place >= 0:
            histories[person] = [slate[place], histories[person][0]]
    expected, excluded = [], []
    for person in range(4):
        mine = [(ts, row) for ts, row in enumerate(log) if row[0] == person]
        before = {row[2][row[3]] for ts, row in mine if ts < at and row[3] >= 0}
        later = {row[2][row[3]] for ts, row in mine if ts >= at and row[3] >= 0}
        if later - before:
            expected.append(sorted(later - before))
            excluded.append(sorted(before))
    hidden = time_split(steps(log, n_items), n_items, at)
    assert [[i for i in row if i < n_items] for row in hidden.targets.tolist()] == expected
    consumed = hidden.consumed(slice(0, len(hidden)))
    assert [np.flatnonzero(row).tolist() for row in consumed] == excluded


def test_a_log_without_acts_leaves_nobody() -> None:
    quiet = leave_last_out(steps([(*row[:3], -1) for row in LOG], 5), 5)
    metrics = rank_all(lambda o: np.zeros((len(o["profile"]), 5)), quiet, 3, 0)
    assert math.isnan(metrics["ndcg"])

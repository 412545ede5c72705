"""Next-item prediction: the protocol, the baselines, the closed forms, resuming, and a real log."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from recloop.agents.sequence import Sizes
from recloop.evaluation.next_item import bench, critic, figures, linear, neighbours, resampling
from recloop.evaluation.next_item.bench import Result
from recloop.evaluation.next_item.last_few import LastFew
from recloop.evaluation.next_item.sequences import Log, TooLittleError, ndcg, ranks, read_log, weighted
from recloop.intake.movielens import read_movielens

ML_100K = Path(__file__).parents[3] / "shared" / "datasets" / "ml-100k"
PEOPLE = 250
TINY = Sizes(dim=8, blocks=1, heads=2, length=10, epochs=4, every=2)


def walk(seed: int, people: int = 40, items: int = 30) -> Log:
    """People walk on a circle of items, with steps of one or two, who like every third item."""
    rng = np.random.default_rng(seed)
    rows = [(rng.integers(items) + rng.integers(1, 3, 12).cumsum()) % items for _ in range(people)]
    return Log(rows, [(row % 3 == 0).astype(float) for row in rows], items)


def test_the_parts_never_overlap_and_nothing_hidden_is_known() -> None:
    log = walk(0)
    for learnt, before, then, row in zip(
        log.learnt().items, log.known("validation").items, log.known("test").items, log.items, strict=True
    ):
        np.testing.assert_array_equal(learnt, row[:-2])
        np.testing.assert_array_equal(before, row[:-2])
        np.testing.assert_array_equal(then, row[:-1])
    assert log.hidden("validation")[0].tolist() == [row[-2] for row in log.items]
    assert log.hidden("test")[0].tolist() == [row[-1] for row in log.items]
    assert log.hidden("test")[1].tolist() == [row[-1] for row in log.rewards]


def test_the_last_few_are_asked_one_after_another_and_nothing_hidden_is_known() -> None:
    log = LastFew.of(walk(0, people=3), 2)
    for part, back in (("validation", 4), ("test", 2)):
        target, reward = log.hidden(part)
        known = log.known(part)
        moments = [(row, len(items) - back + n) for row, items in enumerate(log.items) for n in range(2)]
        assert target.tolist() == [log.items[row][at] for row, at in moments]
        assert reward.tolist() == [log.rewards[row][at] for row, at in moments]
        for (row, at), items, rewards in zip(moments, known.items, known.rewards, strict=True):
            np.testing.assert_array_equal(items, log.items[row][:at])
            np.testing.assert_array_equal(rewards, log.rewards[row][:at])
    assert [len(row) for row in log.learnt().items] == [8, 8, 8]
    with pytest.raises(TooLittleError, match="13 ratings"):
        LastFew.of(log, 5)


def test_one_hidden_item_of_the_last_few_is_the_protocol_of_one(tmp_path: Path) -> None:
    """Also its intervals, which resample people."""
    log, sizes = walk(6), {"bce": TINY, "softmax": TINY}
    found = bench.Bench(log, sizes, tmp_path).run(seeds=1)
    assert figures.figures(LastFew.of(log, 1), found) == figures.figures(log, found)


def test_several_hidden_items_of_one_person_are_no_independent_draws() -> None:
    """Told five times the same of each person, one knows no more: means and intervals are as of once."""
    values, weight = np.random.default_rng(0).random((2, 50, 1)), np.ones((50, 1))
    once = resampling.interval("x", values, weight)
    assert resampling.interval("x", values.repeat(5, 2), weight.repeat(5, 1)) == pytest.approx(once)
    spread = values - np.array([1.0, 0.0, -1.0, 2.0, -2.0])  # the mean of each person stays
    assert resampling.interval("x", spread, weight.repeat(5, 1)) == pytest.approx(once)


def test_ranks_by_hand() -> None:
    known = Log([np.array([0]), np.array([3])], [np.ones(1), np.ones(1)], 4)
    scores = np.array([[9.0, 2.0, 3.0, 1.0], [5.0, 1.0, 5.0, 7.0]])
    found = ranks(scores, known, np.array([1, 0]))
    assert found.tolist() == [1, 0.5]  # item 0 was met; a tie counts half
    np.testing.assert_allclose(ndcg(np.array([0, 1, 9, 10])), [1, 1 / np.log2(3), 1 / np.log2(11), 0])
    assert weighted(np.array([1.0, 0.5, 0.0]), np.array([1.0, 1.0, 0.0])) == 0.75
    with pytest.raises(ValueError, match="finite"):
        ranks(np.full((2, 4), np.nan), known, np.array([1, 0]))


def test_ease_is_the_best_of_all_weights_without_a_diagonal() -> None:
    """Item by item a ridge regression on the others: what its closed form is derived from."""
    log, penalty = walk(1), 3.0
    x = neighbours.matrix(log).toarray().astype(float)
    weights = neighbours.ease(log, penalty)
    for item in range(0, log.count, 7):
        others = np.delete(np.arange(log.count), item)
        gram = x[:, others].T @ x[:, others] + penalty * np.eye(len(others))
        expected = np.linalg.solve(gram, x[:, others].T @ x[:, item])
        np.testing.assert_allclose(weights[others, item], expected, atol=1e-5)
        assert weights[item, item] == 0


def test_item_neighbours_by_hand() -> None:
    log = Log([np.array([0, 1]), np.array([0, 1, 2]), np.array([2])], [np.ones(2), np.ones(3), np.ones(1)], 3)
    whole = neighbours.cosine(log, 3)
    assert whole[0, 1] == pytest.approx(1)
    assert whole[0, 2] == pytest.approx(1 / 2)
    nearest = neighbours.cosine(log, 1)
    assert nearest[:, 0].tolist() == pytest.approx([0, 1, 0])
    scores = neighbours.by_items(Log([np.array([2])], [np.ones(1)], 3), whole)
    assert scores[0].tolist() == pytest.approx([0.5, 0.5, 0])


def test_the_linear_model_is_ridge_regression() -> None:
    log = walk(2).learnt()
    state = linear.states(log)[0].toarray()[0]
    row = log.items[0]
    for item in set(row.tolist()):
        places = len(row) - 1 - np.flatnonzero(row == item)
        assert state[item] == pytest.approx((linear.FADING**places).sum(), rel=1e-6)
    ends = [Log([row[:end]], [np.zeros(end)], log.count) for row in log.items for end in range(1, len(row))]
    x = np.concatenate([linear.states(one).toarray() for one in ends]).astype(float)
    y = np.eye(log.count)[np.concatenate([row[1:] for row in log.items])]
    expected = np.linalg.solve(x.T @ x + 5 * np.eye(log.count), x.T @ y)
    np.testing.assert_allclose(linear.fit(log, 5.0), expected, atol=1e-5)


def test_the_critic_by_hand() -> None:
    """Two of three like item 0, nobody item 1; the person is harder to please than the items' means say."""
    log = Log([np.array([0]), np.array([0]), np.array([0, 1])], [np.ones(1), np.ones(1), np.zeros(2)], 3)
    one = critic.Critic.fit(log, 2.0, 1e9)  # so strong a penalty that nothing is told by other items
    mean = 2 / 4
    assert one.items == pytest.approx([(2 + 2 * mean) / 5, 2 * mean / 3, mean])
    own = -(one.items[0] + one.items[1]) / (2 + critic.OWN)
    assert one.values(log)[2] == pytest.approx(one.items + own, abs=1e-6)


def test_the_critic_finds_who_likes_what() -> None:
    """Half of the people like even items, the others odd ones: means say nothing, what one liked says all."""
    rng = np.random.default_rng(0)
    rows = [rng.permutation(40)[:30] for _ in range(200)]
    likes = [((row + person) % 2 == 0).astype(float) for person, row in enumerate(rows)]
    log = Log(rows, likes, 40)
    values = critic.Critic.fit(log, 10.0, 5.0).values(log)
    truth = (np.arange(40) + np.arange(200)[:, None]) % 2 == 0
    assert values[truth].min() > 0.55
    assert values[~truth].max() < 0.45
    blind = critic.Critic.fit(log, 10.0, 1e9).values(log)
    assert ((blind > 0.5) == truth).mean() < 0.6


def test_the_bound_for_many_ratios_is_that_of_a_mean() -> None:
    """Of a mean to what does not vary: mean - z s / sqrt(n), with z of Bonferroni's share of 2.5 %."""
    values, weight = 1 + np.random.default_rng(1).random((1, 4000, 1)), np.ones((4000, 1))
    for compared in (1, 20):
        z = stats.norm.isf(0.025 / compared)
        expected = values.mean() - z * values.std() / 4000**0.5
        found = resampling.at_least(values, np.ones(values.shape), weight, compared)
        assert found == pytest.approx(expected, abs=0.1 * z * values.std() / 4000**0.5)


def tastes(seed: int, taste: bool) -> tuple[Log, list[Result]]:
    """Half of the people like even items, the others odd ones, or everybody by chance; and what imitates:
    scores that put what comes next among the first dozen, not knowing what is liked."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(40)[:25] for _ in range(PEOPLE)]
    by_taste = [((row + person) % 2 == 0).astype(float) for person, row in enumerate(rows)]
    log = Log(rows, by_taste if taste else [rng.integers(0, 2, 25).astype(float) for _ in rows], 40)
    mine = []
    for _ in range(2):
        scores = {}
        for part in ("validation", "test"):
            scores[part] = rng.normal(0, 0.3, (PEOPLE, 40)).astype(np.float32)
            scores[part][np.arange(PEOPLE), log.hidden(part)[0]] += 0.3
        mine.append(Result(scores["validation"], scores["test"], {}, 0.0))
    return log, mine


def test_a_head_is_taken_where_it_surely_lifts_what_is_liked(tmp_path: Path) -> None:
    log, ours = tastes(0, taste=True)
    one = bench.Bench(log, {}, tmp_path)
    for seed in range(2):
        scores, chosen = one._reinforced(ours, seed)
        assert chosen["beta"] > 0
        before, after = one.score(ours[seed].test, "test"), one.score(scores["test"], "test")
        assert after[1] > 1.1 * before[1]


def test_no_head_is_taken_where_nothing_tells_what_is_liked(tmp_path: Path) -> None:
    """Of nine critics and all betas one or another looks better by chance."""
    taken = []
    for world in range(3):
        log, ours = tastes(world, taste=False)
        scores, chosen = bench.Bench(log, {}, tmp_path)._reinforced(ours, 1)
        taken.append(chosen["beta"])
        if not chosen["beta"]:
            np.testing.assert_array_equal(scores["test"], ours[1].test)
    assert taken.count(0.0) >= 2


def test_the_safest_head_is_taken_not_the_greediest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two betas lift surely, as each alone shows; the larger one lifts more, and costs many hits."""
    log, ours = tastes(0, taste=True)
    for betas, taken in (((0.1,), 0.1), ((2.0,), 2.0), ((0.1, 2.0), 0.1)):
        monkeypatch.setattr(critic, "BETAS", betas)
        assert bench.Bench(log, {}, tmp_path)._reinforced(ours, 0)[1]["beta"] == taken


def test_what_was_learnt_is_kept_and_another_log_begins_anew(tmp_path: Path) -> None:
    sizes = {"bce": TINY, "softmax": TINY}
    log = walk(3)
    first = bench.Bench(log, sizes, tmp_path)
    found = first.run(seeds=2)
    assert {name: len(results) for name, results in found.items()} == {
        name: 2 if name in bench.SEEDED else 1 for name in bench.TITLES
    }
    kept = {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npz")}
    assert len(kept) == 4
    again = bench.Bench(log, sizes, tmp_path).run(seeds=2)
    assert {file: file.stat().st_mtime_ns for file in tmp_path.rglob("*.npz")} == kept
    for name, results in found.items():
        for one, two in zip(results, again[name], strict=True):
            np.testing.assert_array_equal(one.test, two.test)
    assert bench.Bench(walk(4), sizes, tmp_path).folder != first.folder
    assert bench.Bench(log, sizes | {"bce": replace(TINY, epochs=6)}, tmp_path).folder != first.folder
    rows = {row["model"]: row for row in figures.figures(log, found)}
    assert rows["sasrec_bce"]["ratio"] == rows["sasrec_bce"]["ratio_low"] == 1
    for row in rows.values():
        assert row["ndcg_low"] <= row["ndcg"] <= row["ndcg_high"]
    assert len({tuple(one.chosen.items()) for one in found["ours_reinforced"]}) == 1  # one head for all seeds


def test_the_test_items_change_nothing_that_is_chosen(tmp_path: Path) -> None:
    """Whatever the last items are: what was fitted, and its validation, stay as they are."""
    log = walk(5)
    other = Log([np.append(row[:-1], 0) for row in log.items], log.rewards, log.count)
    for name in ("popular", "item_knn", "ease", "linear"):
        mine, theirs = (bench.Bench(x, {"bce": TINY, "softmax": TINY}, tmp_path)._fit(name, 0, {})
                        for x in (log, other))  # fmt: skip
        assert mine[1] == theirs[1]
        np.testing.assert_array_equal(mine[0]["test"], theirs[0]["test"])


def test_movielens_100k_as_published(tmp_path: Path) -> None:
    if not ML_100K.exists():
        pytest.skip(f"MovieLens 100K is not at {ML_100K}")
    log = read_log(read_movielens(ML_100K), 4.0)
    assert (len(log.items), log.count, sum(map(len, log.items))) == (943, 1682, 100_000)
    assert np.mean(np.concatenate(log.rewards)) == pytest.approx(0.55375)
    assert all(len(set(row.tolist())) == len(row) for row in log.items)
    found = bench.Bench(log, {}, tmp_path)
    score = found.score(neighbours.popular(found.learnt, found.known["validation"]))[0]
    assert 0.02 < score < 0.05
    best = found.score(neighbours.by_items(found.known["validation"], neighbours.ease(found.learnt, 200)))[0]
    assert best > 1.5 * score


def test_a_log_of_nobody_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,4,1\n1,2,5,2\n")
    (tmp_path / "movies.csv").write_text("movieId,title,genres\n1,A (1999),Drama\n2,B (1999),Drama\n")
    with pytest.raises(TooLittleError, match="nobody has 5 ratings"):
        read_log(read_movielens(tmp_path), 4.0)

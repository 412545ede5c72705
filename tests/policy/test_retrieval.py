"""Candidates instead of the whole catalogue: what is drawn from them has exact propensities."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from scipy import stats

from recloop.features import FeatureSpec
from recloop.policy import ArtefactError, NothingLeft, Retriever, Sampler, load, write_artefact
from recloop.policy.retrieval import build_lists
from recloop.schema import Item

D = 8


def clustered(n: int, seed: int = 0, groups: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, D) vectors around centres, with uneven norms, and (64, D) queries near some."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((groups, D))
    vectors = centres[rng.integers(0, groups, n)] + 0.3 * rng.standard_normal((n, D))
    vectors *= rng.lognormal(0, 0.3, (n, 1))
    queries = centres[rng.integers(0, groups, 64)] + 0.3 * rng.standard_normal((64, D))
    return vectors.astype(np.float32), queries.astype(np.float32)


def sampler(
    vectors: np.ndarray, candidates: int, sold_out: np.ndarray | None = None, e: float = 0.1, **more: float
) -> Sampler:
    """Over observations whose ``profile`` is the query."""
    out = np.zeros(len(vectors), bool) if sold_out is None else sold_out
    lists = build_lists(vectors, out)
    found = Retriever(lambda o: o["profile"], vectors[lists.items], lists, candidates)
    return Sampler(lambda o: o["profile"] @ vectors.T, 0.5, e, out, more.get("floor", 0.0), found)


def naive(one: Sampler, query: np.ndarray, slate: list[int], hidden: set[int]) -> list[float]:
    """The definition, one item at a time."""
    assert one.retriever is not None
    assert one.excluded is not None
    scores = one.score({"profile": query[None]})[0].astype(float)
    z = (scores - scores[~one.excluded].mean()) / scores[~one.excluded].std() / one.temperature
    exclude = np.array(sorted(hidden), np.int64) if hidden else None
    near = one.retriever.find({"profile": query[None]}, exclude).items[0].tolist()
    left = [i for i in range(len(scores)) if not one.excluded[i] and i not in hidden]
    e = max(one.exploration, one.floor * len(left))
    found = []
    for item in slate:
        share = np.exp(z[near] - z[near].max())
        soft = share[near.index(item)] / share.sum() if item in near else 0
        found.append((1 - e) * soft + e / len(left) if item in left else 0.0)
        near, left = [i for i in near if i != item], [i for i in left if i != item]
    return found


@pytest.mark.parametrize("floor", [0.0, 0.0004])
def test_the_propensities_are_those_of_the_definition(floor: float) -> None:
    vectors, queries = clustered(900)
    sold_out = np.arange(900) % 7 == 0
    one = sampler(vectors, 20, sold_out, floor=floor)
    observation, rng = {"profile": queries}, np.random.default_rng(0)
    hidden = {1, 2, *one.retriever.find(observation).items[0, :3].tolist()}  # type: ignore[union-attr]
    exclude = np.array(sorted(hidden))
    drawn = one.slates(observation, 6, rng, exclude)
    for query, slate, found in zip(queries, drawn.items.tolist(), drawn.propensities, strict=True):
        np.testing.assert_allclose(found, naive(one, query, slate, hidden), rtol=1e-4)
        assert hidden.isdisjoint(slate)
    assert not sold_out[drawn.items].any()
    assert (drawn.propensities >= floor).all()
    np.testing.assert_allclose(
        one.propensities(observation, drawn.items, exclude), drawn.propensities, rtol=1e-12
    )
    logged = rng.integers(
        0, 901, (64, 6)
    )  # of another policy: sold out, hidden, repeated and empty places too
    logged[0] = [1, 8, 8, 900, 7, 9]
    for query, slate, found in zip(
        queries, logged, one.propensities(observation, logged, exclude), strict=True
    ):
        real = slate < 900
        seen = [i if i not in slate[:place] else 7 for place, i in enumerate(slate.tolist()) if i < 900]
        np.testing.assert_allclose(found[real], naive(one, query, seen, hidden), rtol=1e-4)
        assert np.isnan(found[~real]).all()


@pytest.mark.parametrize("floor", [0.0, 0.004])
def test_items_come_as_often_as_their_propensities_say(floor: float) -> None:
    """Of the second pick, whose distribution is summed over all first picks; candidates or not."""
    vectors, queries = clustered(60, groups=6)
    one = sampler(vectors, 5, e=0.2, floor=floor)
    times = 40_000
    observation = {"profile": np.repeat(queries[:1], times, 0)}
    drawn = one.slates(observation, 2, np.random.default_rng(5))
    pairs = np.array([(a, b) for a in range(60) for b in range(60) if a != b])
    chance = one.propensities({"profile": np.repeat(queries[:1], len(pairs), 0)}, pairs).prod(1)
    assert chance.sum() == pytest.approx(1, abs=1e-9)
    for place in (0, 1):
        expected = np.bincount(pairs[:, place], chance, 60) * times
        assert stats.chisquare(np.bincount(drawn.items[:, place], minlength=60), expected).pvalue > 1e-3


@settings(deadline=None, max_examples=60)
@given(
    n=st.integers(1, 90), k=st.integers(1, 12), candidates=st.integers(1, 15), hidden=st.integers(0, 95),
    e=st.floats(0, 1), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_catalogue_gives_sound_slates(
    n: int, k: int, candidates: int, hidden: int, e: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors, queries = clustered(n, seed, 4)
    sold_out = rng.random(n) < 0.2
    sold_out[rng.integers(n)] = False
    one = sampler(vectors, candidates, sold_out, e)
    exclude = np.minimum(rng.integers(0, 95, (5, hidden)), n)
    allowed = [np.setdiff1d(np.flatnonzero(~sold_out), row) for row in exclude]
    observation = {"profile": queries[:5]}
    if min(map(len, allowed)) == 0:
        with pytest.raises(NothingLeft):
            one.slates(observation, k, rng, exclude)
        return
    drawn = one.slates(observation, k, rng, exclude)
    assert drawn.items.shape[1] == min(k, *map(len, allowed))
    for row, mine in zip(drawn.items, allowed, strict=True):
        assert len(set(row.tolist())) == len(row)
        assert np.isin(row, mine).all()
    assert (drawn.propensities > 0).all()
    assert (drawn.propensities <= 1).all()
    np.testing.assert_allclose(
        one.propensities(observation, drawn.items, exclude), drawn.propensities, rtol=1e-9
    )
    scores = np.take_along_axis(one.score(observation), drawn.items, 1)
    np.testing.assert_allclose(drawn.scores, scores, rtol=1e-4, atol=1e-4)
    first = [one.propensities(observation, np.full((5, 1), i), exclude)[:, 0] for i in range(n)]
    np.testing.assert_allclose(np.sum(first, 0), 1, rtol=1e-9)


def test_the_candidates_are_nearly_the_best() -> None:
    vectors, queries = clustered(40_000, groups=400)
    one = sampler(vectors, 40)
    assert one.retriever is not None
    found = one.retriever.find({"profile": queries}).items
    best = np.argsort(-(queries @ vectors.T), 1)[:, :10]
    recall = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(best.tolist(), found.tolist(), strict=True)])
    assert recall > 0.95
    few = Retriever(lambda o: o["profile"], vectors, one.retriever._lists, 1)
    assert few.find({"profile": queries}).items.shape == (64, 1)


def test_mean_and_spread_are_those_of_all_scores() -> None:
    vectors, queries = clustered(500)
    sold_out = np.arange(500) % 3 == 0
    one = sampler(vectors, 9, sold_out)
    assert one.retriever is not None
    found = one.retriever.find({"profile": queries})
    scores = queries.astype(float) @ vectors[~sold_out].astype(float).T
    np.testing.assert_allclose(found.mean, scores.mean(1), atol=1e-6)
    np.testing.assert_allclose(found.spread, scores.std(1), rtol=1e-6)


def test_many_excluded_items_are_made_up_for_and_then_scored_whole() -> None:
    vectors, queries = clustered(3000)
    one = sampler(vectors, 10)
    assert one.retriever is not None
    observation = {"profile": queries[:1]}
    looked_at = np.argsort(-one.score(observation)[0])
    some = looked_at[:200]
    assert one.retriever.find(observation, some).enough.all()
    most = looked_at[:2996]
    assert not one.retriever.find(observation, most).enough.any()
    drawn = one.slates(observation, 9, np.random.default_rng(0), most)
    assert set(drawn.items[0].tolist()) == set(looked_at[2996:].tolist())
    two = {"profile": queries[:2]}
    mixed = np.full((2, 2996), 3000)
    mixed[0] = most
    drawn = one.slates(two, 3, np.random.default_rng(0), mixed)  # one row whole, one from candidates
    np.testing.assert_allclose(one.propensities(two, drawn.items, mixed), drawn.propensities, rtol=1e-12)
    with pytest.raises(NothingLeft, match="no item is left"):
        one.slates(observation, 3, np.random.default_rng(0), np.arange(3000))


def test_a_slate_longer_than_the_candidates_is_drawn_from_everything() -> None:
    vectors, queries = clustered(50)
    drawn = sampler(vectors, 4).slates({"profile": queries}, 60, np.random.default_rng(0))
    assert (np.sort(drawn.items, 1) == np.arange(50)).all()


def test_queries_that_are_not_finite_are_refused() -> None:
    vectors, queries = clustered(50)
    queries[1, 0] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        sampler(vectors, 4).slates({"profile": queries}, 3, np.random.default_rng(0))


def test_a_floor_that_cannot_be_met_is_refused() -> None:
    vectors, queries = clustered(50)
    with pytest.raises(ValueError, match=r"propensity_floor: 50 items.*at most 0\.02"):
        sampler(vectors, 4, floor=0.021).slates({"profile": queries}, 3, np.random.default_rng(0))


N = 12
SPEC = FeatureSpec(
    item_ids=tuple(f"i{n}" for n in range(N)), categories={}, scales={}, devices=("phone",), history=3,
    rating_positive=4.0,
)  # fmt: skip
ITEMS = [Item(item_id=f"i{n}", title=f"Item {n}", available=n != 2) for n in range(N)]


def write(folder: Path, width: int = D, vectors: np.ndarray | None = None, **changes: object) -> Path:
    """A policy whose query is linear in the profile and the history."""
    rng = np.random.default_rng(0)
    weights = {"W": rng.standard_normal((SPEC.profile_size, width)), "E": rng.standard_normal((N + 1, width))}
    nodes = [
        helper.make_node("MatMul", ["profile", "W"], ["p"]),
        helper.make_node("Gather", ["E", "history"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["h"], keepdims=0),
        helper.make_node("Sum", ["p", "h"], ["query"]),
    ]
    tensors = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axis"))
    sizes = {"profile": SPEC.profile_size, "context": SPEC.context_size}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", w]) for n, w in sizes.items()]
    inputs.append(helper.make_tensor_value_info("history", TensorProto.INT64, ["b", 3]))
    output = helper.make_tensor_value_info("query", TensorProto.FLOAT, ["b", width])
    graph = helper.make_graph(nodes, "scorer", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}.onnx"
    file.write_bytes(model.SerializeToString())
    made = {"slate": 3, "temperature": 0.3, "exploration": 0.1, "candidates": 5}
    matrix = rng.standard_normal((N, D)).astype(np.float32) if vectors is None else vectors
    write_artefact(
        folder,
        file,
        SPEC,
        ITEMS,
        np.arange(N)[::-1],
        "dqn",
        vectors=matrix,
        **{**made, **changes},  # type: ignore[arg-type]
    )
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "policy")


def test_what_is_written_is_what_is_loaded(folder: Path, tmp_path: Path) -> None:
    matrix = np.random.default_rng(1).standard_normal((N, D)).astype(np.float32)
    policy = load(write(tmp_path / "other", vectors=matrix))
    observation = SPEC.observation(None, ["i1", "gone"], "phone", 0)  # the history names a deleted item
    np.testing.assert_allclose(policy.scores(observation), policy.output(observation) @ matrix.T, atol=1e-5)
    drawn = policy.sampler.slates(observation, 4, np.random.default_rng(0))
    np.testing.assert_allclose(
        drawn.scores, np.take_along_axis(policy.scores(observation), drawn.items, 1), atol=1e-5
    )
    many = {name: np.repeat(x, 400, 0) for name, x in observation.items()}
    shown = policy.sampler.slates(many, 11, np.random.default_rng(0)).items
    assert set(shown.ravel().tolist()) == set(range(N)) - {2}  # sold out
    again = write(tmp_path / "again")
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(bytes(content))


def vouch(folder: Path, change: Callable[[dict], object] = lambda _: None) -> None:
    """Let the manifest vouch for whatever is there now."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        manifest["files"][name] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def relist(folder: Path, **changes: np.ndarray) -> None:
    with np.load(folder / "lists.npz") as old:
        parts = {name: old[name] for name in old} | changes
    np.savez(folder / "lists.npz", **parts)
    vouch(folder)


def resave(folder: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    np.save(folder / "vectors.npy", change(np.load(folder / "vectors.npy")))
    vouch(folder)


def with_nan(x: np.ndarray) -> np.ndarray:
    x[4, 1] = np.nan
    return x


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered vectors": (lambda f: flip(f / "vectors.npy"), r"vectors\.npy was altered"),
    "altered lists": (lambda f: flip(f / "lists.npz"), r"lists\.npz was altered"),
    "no vectors": (lambda f: (f / "vectors.npy").unlink(), "must hold"),
    "no lists": (lambda f: (f / "lists.npz").unlink(), "must hold"),
    "extra": (lambda f: (f / "index.bin").write_bytes(b""), r"index\.bin"),
    "no candidates": (lambda f: vouch(f, lambda m: m.update(candidates=None)), "must hold"),
    "another format": (lambda f: vouch(f, lambda m: m.update(format=1)), r"manifest\.json cannot"),
    "not finite": (lambda f: resave(f, with_nan), "not finite"),
    "float64": (lambda f: resave(f, lambda x: x.astype(np.float64)), "must be float32"),
    "too few vectors": (lambda f: resave(f, lambda x: x[:-1]), "one row for each of 12"),
    "too narrow vectors": (lambda f: resave(f, lambda x: x[:, :5].copy()), r"lists\.npz cannot be used"),
    "other vectors": (lambda f: resave(f, lambda x: x[::-1].copy() - 3), "made for other vectors"),
    "pickled": (lambda f: resave(f, lambda x: x.astype(object)), r"vectors\.npy cannot be read"),
    "no lists but bytes": (
        lambda f: ((f / "lists.npz").write_bytes(b"no zip"), vouch(f)),
        r"lists\.npz cannot be used",
    ),
    "an item twice": (lambda f: relist(f, items=np.zeros(N, np.int64)), "each item once"),
    "a sold out item": (
        lambda f: relist(f, items=np.roll(np.load(f / "lists.npz")["items"], 1)),
        "not available",
    ),
    "lists that run back": (
        lambda f: relist(f, starts=np.array([0, 5, 3, 6, 7, 9, 10, 11])),
        "do not follow each other",
    ),
    "centres that are not finite": (
        lambda f: relist(f, centres=np.full((7, D), np.inf, np.float32)),
        "finite",
    ),
    "a floor that cannot be met": (
        lambda f: vouch(f, lambda m: m.update(propensity_floor=0.1)),
        "at most 0.09",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_refused(folder: Path, fault: str) -> None:
    harm, says = FAULTS[fault]
    harm(folder)
    with pytest.raises(ArtefactError, match=says):
        load(folder)


def test_a_part_of_another_policy_is_refused(folder: Path, tmp_path: Path) -> None:
    other = write(
        tmp_path / "other", vectors=np.random.default_rng(9).standard_normal((N, D)).astype(np.float32)
    )
    shutil.copyfile(other / "vectors.npy", folder / "vectors.npy")
    with pytest.raises(ArtefactError, match=r"vectors\.npy was altered"):
        load(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"width": D + 1}, r"scorer\.onnx gives float32 \(2, 9\)"),
        ({"vectors": np.full((N, D), np.inf, np.float32)}, "not finite"),
        ({"candidates": None}, "both or not at all"),
        ({"propensity_floor": 0.2}, "propensity_floor"),
    ],
)
def test_parts_that_do_not_fit_are_not_exported(tmp_path: Path, changes: dict, says: str) -> None:
    with pytest.raises(ArtefactError, match=says):
        write(tmp_path / "policy", **changes)
    assert not (tmp_path / "policy").exists()


def test_one_item_alone_is_served() -> None:
    vectors, queries = clustered(1)
    drawn = sampler(vectors, 5).slates({"profile": queries}, 5, np.random.default_rng(0))
    assert (drawn.items == 0).all()
    assert (drawn.propensities == 1).all()

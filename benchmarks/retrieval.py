"""Retrieval: the ten best of a million vectors, and one whole request at growing catalogues.

The million are clustered, as trained item towers are, and isotropic Gaussian, the hardest there is. Peers:
the scan (numpy), faiss's inverted lists, and usearch's HNSW graph, both over the inner product. Each is built
with all threads, then loads and answers on one, as a slot does. ``limit`` is the scan at the memory bandwidth
of this run, or a recall of 1. A request goes from an observation to a slate of five with propensities, by a
two-tower network of the default size; peers are plain numpy after ONNX Runtime, and torch.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import faiss
import numpy as np
import onnxruntime  # noqa: F401  before usearch: the other order ends the process with a segmentation fault
import torch
from threadpoolctl import threadpool_limits
from usearch.index import Index

from benchmarks.race import SEED, Row, main, race
from recloop.agents.export import QueryTower, export_onnx, item_matrix
from recloop.agents.network import Shape, TwoTower
from recloop.features import FeatureSpec
from recloop.policy import Retriever, load, write_artefact
from recloop.policy.retrieval import ROUNDS, SAMPLE, Lists, build_lists
from recloop.schema import Item
from recloop.settings import load_params

K, WIDTH, PEOPLE, SLATE = 10, 64, 200, 5
PROBED = 24  # lists that faiss looks through: recall as ours at a million clustered
CASES, UNITS = ("build", "index beside the matrix", "load"), ("s", "MB", "s")
Answer = Callable[[np.ndarray], np.ndarray]


def cases(repeats: int) -> Iterator[Row]:
    """A million only in a full run: the peer needs minutes to build its graph."""
    size = 1_000_000 if repeats > 3 else 100_000
    for kind in (clustered, isotropic):
        yield from search(kind, size, repeats)
    for items in (200, 5_000, 100_000):
        yield from requests(items, repeats)


def clustered(n: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 64): 2,000 groups of uneven size in 100 topics, uneven norms, a bias and a constant."""
    rng = np.random.default_rng(SEED)
    width = WIDTH - 2
    topics = rng.standard_normal((100, width))
    centres = topics[rng.integers(0, 100, 2000)] + 0.7 * rng.standard_normal((2000, width))
    share = np.arange(1, 2001) ** -0.7
    share /= share.sum()
    of = rng.choice(2000, n, p=share)
    items = np.ones((n, WIDTH), np.float32)
    items[:, :-2] = centres[of] + 0.5 * rng.standard_normal((n, width), np.float32)
    items[:, :-2] *= rng.lognormal(0, 0.2, (n, 1))
    items[:, -2] = rng.standard_normal(n)
    queries = np.ones((PEOPLE, WIDTH), np.float32)
    queries[:, :-2] = centres[rng.choice(2000, PEOPLE, p=share)] + 0.7 * rng.standard_normal((PEOPLE, width))
    queries[:, -1] = rng.standard_normal(PEOPLE)
    return items, queries


def isotropic(n: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 (n, 64): no two items are near each other."""
    rng = np.random.default_rng(SEED)
    return rng.standard_normal((n, WIDTH), np.float32), rng.standard_normal((PEOPLE, WIDTH), np.float32)


def search(kind: Callable[[int], tuple[np.ndarray, np.ndarray]], n: int, repeats: int) -> Iterator[Row]:
    """One query at a time; recall, building, size and loading beside the peers'."""
    items, queries = kind(n)
    name, candidates = f"{n:,} {kind.__name__}", load_params().serving.candidates
    lists, built = _timed(lambda: build_lists(items, np.zeros(n, bool)))
    content, vectors = lists.to_bytes(), items[lists.items]
    (centres, nearest), faiss_built = _timed(lambda: _clusters(items))
    graph, graph_built = _timed(lambda: _graph(items))
    with tempfile.TemporaryDirectory() as work, threadpool_limits(1):
        file = Path(work) / "graph"
        graph.save(str(file))
        found, loaded = _timed(lambda: _retriever(content, vectors, candidates))
        index, faiss_loaded = _timed(lambda: _faiss(items, centres, nearest))
        graph, graph_loaded = _timed(lambda: Index.restore(str(file), view=True))

        def ours(query: np.ndarray) -> np.ndarray:
            near = found.find({"profile": query[None]})
            return near.items[0][np.argpartition(near.scores[0], -K)[-K:]]

        def scan(query: np.ndarray) -> np.ndarray:
            return np.argpartition(items @ query, -K)[-K:]

        def in_faiss(query: np.ndarray) -> np.ndarray:
            return index.search(query[None], candidates)[1][0, :K]

        def in_graph(query: np.ndarray) -> np.ndarray:
            near = graph.search(query, candidates).keys.astype(np.int64)
            return near[np.argpartition(items[near] @ query, -K)[-K:]]

        limit = _bandwidth() / items.nbytes
        row = _race(f"top 10 of {name}", ours, f"numpy {np.__version__} scan", scan, queries, repeats)
        yield Row(**(row.__dict__ | {"limit": limit}))
        best = [set(scan(query).tolist()) for query in queries]
        recall, mine = _recall(ours, queries, best), (built, len(content) / 1e6, loaded)
        copied = (items.nbytes + 8 * n + centres.nbytes) / 1e6
        for peer, answer, theirs in (
            (f"faiss {faiss.__version__} lists", in_faiss, (faiss_built, copied, faiss_loaded)),
            (
                f"usearch {version('usearch')} HNSW",
                in_graph,
                (graph_built, file.stat().st_size / 1e6, graph_loaded),
            ),
        ):
            yield _race(f"top 10 of {name}", ours, peer, answer, queries, repeats)
            other = _recall(answer, queries, best)
            ratios = [recall / other] * 3
            yield Row(f"recall@10, {name}", "share", recall, peer, other, *ratios, "higher", 1.0)
            for case, unit, one, other in zip(CASES, UNITS, mine, theirs, strict=True):
                ratios = [other / one] * 3
                yield Row(f"{case}, {name}", unit, one, peer, other, *ratios, "lower", None)


def _clusters(items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float32 (L, D) centres by faiss and int64 (N,), the nearest of each item; as many as ours."""
    size = round(2 * len(items) ** 0.5)
    kmeans = faiss.Kmeans(
        WIDTH, size, niter=ROUNDS, max_points_per_centroid=SAMPLE, min_points_per_centroid=1, seed=SEED
    )
    kmeans.train(items)
    return kmeans.centroids, kmeans.index.search(items, 1)[1][:, 0].copy()


def _faiss(items: np.ndarray, centres: np.ndarray, nearest: np.ndarray) -> faiss.IndexIVFFlat:
    """Lists of the nearest by distance, since those by inner product find less."""
    quantizer = faiss.IndexFlatIP(WIDTH)
    quantizer.add(centres)
    index = faiss.IndexIVFFlat(quantizer, WIDTH, len(centres), faiss.METRIC_INNER_PRODUCT)
    index.is_trained, index.nprobe, numbers = True, PROBED, np.arange(len(items))
    index.add_core(len(items), faiss.swig_ptr(items), faiss.swig_ptr(numbers), faiss.swig_ptr(nearest), None)
    return index


def _timed(run: Callable[[], object]) -> tuple:
    began = time.perf_counter()
    found = run()
    return found, time.perf_counter() - began


def _retriever(content: bytes, vectors: np.ndarray, candidates: int) -> Retriever:
    lists = Lists.from_bytes(content, WIDTH, np.zeros(len(vectors), bool))
    lists.check(vectors)
    return Retriever(lambda observation: observation["profile"], vectors, lists, candidates)


def _graph(items: np.ndarray) -> Index:
    graph = Index(ndim=WIDTH, metric="ip", dtype="bf16", connectivity=16, expansion_add=64)
    graph.add(np.arange(len(items)), items, threads=os.cpu_count() or 1)
    return graph


def _race(case: str, ours: Answer, peer: str, theirs: Answer, queries: np.ndarray, repeats: int) -> Row:
    few = queries[:20]
    return race(
        case,
        lambda: [ours(query) for query in few],
        peer,
        lambda: [theirs(query) for query in few],
        len(few),
        "queries/s",
        repeats,
    )


def _recall(answer: Answer, queries: np.ndarray, best: list[set[int]]) -> float:
    found = (len(wanted & set(answer(q).tolist())) for q, wanted in zip(queries, best, strict=True))
    return sum(found) / (K * len(queries))


def _bandwidth() -> float:
    """Bytes a second that are read from memory: the best of several passes over 256 MB."""
    block = np.ones(32_000_000)
    return block.nbytes / min(_timed(block.max)[1] for _ in range(7))


def requests(n: int, repeats: int) -> Iterator[Row]:
    """Observation to slate with propensities."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(SEED)
    params = load_params()
    serving = params.serving
    spec = FeatureSpec(
        item_ids=tuple(f"i{i}" for i in range(n)), categories={"sex": ("F", "M")}, scales={},
        devices=("phone", "desktop"), history=10, rating_positive=4.0,
    )  # fmt: skip
    shape = Shape(
        rng.standard_normal((n, 16)).astype(np.float32), spec.profile_size, spec.context_size, spec.history
    )
    torch.manual_seed(SEED)
    network = TwoTower(shape, params.agent.network).eval()
    with tempfile.TemporaryDirectory() as work, threadpool_limits(1):
        policy = load(export(network, spec, n > serving.exact_items, Path(work), serving))
        observation = spec.observation(None, spec.item_ids[:10], "phone", 0)
        tensors = [torch.from_numpy(observation[name]) for name in ("profile", "context", "history")]
        e, t = serving.exploration, serving.temperature

        def ours() -> object:
            return policy.sampler.slates(observation, SLATE, rng)

        def plain() -> object:
            return _pick_by_pick(policy.scores(observation)[0].astype(np.float64), e, t, rng)

        def in_torch() -> object:
            with torch.no_grad():
                return _in_torch(network(*tensors)[0].double(), e, t)

        work_done, unit = 100, "requests/s"
        for peer, theirs in (
            (f"numpy {np.__version__}, pick by pick", plain),
            (f"torch {torch.__version__}", in_torch),
        ):
            yield race(
                f"a request, {n:,} items",
                lambda: [ours() for _ in range(work_done)],
                peer,
                lambda other=theirs: [other() for _ in range(work_done)],
                work_done, unit, repeats,
            )  # fmt: skip


def export(network: TwoTower, spec: FeatureSpec, searched: bool, work: Path, serving) -> Path:
    """The network as a policy's folder, searched by lists or scored whole."""
    items = [Item(item_id=one, title=one) for one in spec.item_ids]
    example = {k: torch.from_numpy(np.repeat(x, 2, 0)) for k, x in spec.observation(None, [], "", 0).items()}
    tower, output = (QueryTower(network), "query") if searched else (network, "scores")
    export_onnx(tower, example, work / "scorer.onnx", output)
    write_artefact(
        work / "policy", work / "scorer.onnx", spec, items, np.arange(len(items)), "dqn", SLATE,
        serving.temperature, serving.exploration, serving.propensity_floor,
        item_matrix(network) if searched else None, serving.candidates if searched else None,
    )  # fmt: skip
    return work / "policy"


def _pick_by_pick(scores: np.ndarray, e: float, t: float, rng: np.random.Generator) -> tuple[list, list]:
    weight = (scores - scores.mean()) / scores.std() / t
    weight = np.exp(weight - weight.max())
    left, picked, chances = np.ones(len(scores), bool), [], []
    for _ in range(SLATE):
        p = (1 - e) * weight * left / (weight * left).sum() + e * left / left.sum()
        picked.append(int(rng.choice(len(p), p=p / p.sum())))
        chances.append(p[picked[-1]])
        left[picked[-1]] = False
    return picked, chances


def _in_torch(scores: torch.Tensor, e: float, t: float) -> tuple[list, list]:
    weight = torch.softmax((scores - scores.mean()) / scores.std(correction=0) / t, 0)
    left, picked, chances = torch.ones_like(weight), [], []
    for _ in range(SLATE):
        p = (1 - e) * weight * left / (weight * left).sum() + e * left / left.sum()
        picked.append(int(torch.multinomial(p, 1)))
        chances.append(float(p[picked[-1]]))
        left[picked[-1]] = 0
    return picked, chances


if __name__ == "__main__":
    main(cases, __doc__)

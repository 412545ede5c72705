"""A slot as it is delivered (BentoML, tokens, checks, log, metrics) beside bare Starlette with msgspec.

Both score and draw with the same policy, a two-tower network of the default size, and read the same
store. 5,000 items are scored exactly; a million (100,000 with ``--quick``) by inverted lists. Closed
loop: each of 1 or 16 connections asks again as soon as it has its answer. Open loop: arrivals at 70 % of
what that server managed with 16 connections, evenly spaced or as a Poisson process; the second after the one
in which connections are opened, time and again, of which the median counts: a machine that stalls for some
milliseconds spoils one second, not the rest. *p99 by p50* compares the tail with the middle. Its limit is
what queueing alone does: nothing, or that of an M/D/1 queue. *Start* is from the command to the first answer
of ``/readyz``; memory is the resident set of all processes of the server. The load comes from a process
beside them, which shares the cores.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks.load import PEOPLE, measure
from benchmarks.race import SEED, Row, main, median_ratio
from benchmarks.retrieval import export
from recloop.agents.network import Shape, TwoTower
from recloop.delivery.processes import free_port
from recloop.features import FeatureSpec
from recloop.schema import Event, Item, User
from recloop.serving.build import build_bento, serve_command
from recloop.settings import load_params
from recloop.store import add_items, add_users, append, open_store

ROOT = Path(__file__).parents[1]
SECONDS, SHARE = 2.0, 0.7
PEER = f"Starlette {version('starlette')} + msgspec"


@dataclass
class Server:
    """One that runs: its address, the seconds it took to be ready, its process."""

    url: str
    start: float
    process: subprocess.Popen

    @property
    def memory(self) -> float:
        """Resident MB of the whole family."""
        one = psutil.Process(self.process.pid)
        return sum(each.memory_info().rss for each in (one, *one.children(recursive=True))) / 1e6


def cases(repeats: int) -> Iterator[Row]:
    """Two catalogues."""
    for items in (5_000, 1_000_000 if repeats > 3 else 100_000):
        with tempfile.TemporaryDirectory(prefix="recloop-") as work:
            yield from catalogue(items, Path(work), repeats)


def catalogue(n: int, work: Path, repeats: int) -> Iterator[Row]:
    """All cases at one size."""
    policy, store = prepare(n, work)
    name = f"{n:,} items"
    with slot(policy, store, work) as ours, plain(policy, store) as theirs:
        for connections in (1, 16):
            runs = [
                [measure(f"{one.url}/recommend", connections=connections, seconds=SECONDS) for one in pair]
                for pair in [(ours, theirs)] * (repeats + 1)
            ][1:]
            yield from closed(f"{name}, {connections} connection{'s' * (connections > 1)}", runs)
        rates = [float(np.median([run[i]["requests"] / run[i]["seconds"] for run in runs])) for i in (0, 1)]
        for arrivals, spread in (("even", 0), ("Poisson", 1)):
            options = {"connections": 64, "seconds": 2.0, "skip": 1.0, "spread": spread}
            runs = [
                [
                    measure(f"{one.url}/recommend", rate=SHARE * rate, **options)
                    for one, rate in zip((ours, theirs), rates, strict=True)
                ]
                for _ in range(3 * repeats)
            ]
            case = f"{name}, {arrivals} arrivals at 70 %"
            for q in ("p50", "p99"):
                yield row(f"{case}, {q}", "ms", [[one[q] for one in pair] for pair in runs])
            tails = [[one["p99"] / one["p50"] for one in pair] for pair in runs]
            found = row(f"{case}, p99 by p50", "times", tails)
            yield replace(found, limit=queue_tail(SHARE) if spread else 1.0)
        yield row(f"{name}, memory", "MB", [[ours.memory, theirs.memory]] * 2)
    starts = []
    for _ in range(repeats):
        with slot(policy, store, work) as ours, plain(policy, store) as theirs:
            starts.append([ours.start, theirs.start])
    yield row(f"{name}, start", "s", starts)


def closed(case: str, runs: list[list[dict]]) -> Iterator[Row]:
    """Rates, and the times that go with them."""
    if failed := sum(one["failed"] for pair in runs for one in pair):
        raise SystemExit(f"{case}: {failed} requests failed")
    rates = [[one["requests"] / one["seconds"] for one in pair] for pair in runs]
    yield row(case, "requests/s", rates, better="higher")
    yield row(f"{case}, p99", "ms", [[one["p99"] for one in pair] for pair in runs])


def row(case: str, unit: str, pairs: list[list[float]], better: str = "lower") -> Row:
    """Ours and theirs of each repeat, as medians and a median ratio."""
    ours, theirs = np.array(pairs).T
    ratios = ours / theirs if better == "higher" else theirs / ours
    return Row(
        case, unit, float(np.median(ours)), PEER, float(np.median(theirs)), *median_ratio(ratios),
        better=better, limit=None,
    )  # fmt: skip


def queue_tail(load: float, requests: int = 400_000) -> float:
    """p99 by p50 of a server that needs the same time for each request and has Poisson arrivals (M/D/1).

    By Lindley's recursion (1952): a wait is the last wait and service less the time between, or nothing.
    """
    gaps = 1 - np.random.default_rng(SEED).exponential(1 / load, requests)
    walk = np.concatenate([[0.0], np.cumsum(gaps)])
    times = 1 + walk - np.minimum.accumulate(walk)
    return float(np.quantile(times, 0.99) / np.quantile(times, 0.5))


def prepare(n: int, work: Path) -> tuple[Path, str]:
    """A policy of n items, and a store in which each person has liked ten of them."""
    rng, params = np.random.default_rng(SEED), load_params()
    spec = FeatureSpec(
        item_ids=tuple(f"i{i}" for i in range(n)), categories={"sex": ("F", "M")}, scales={},
        devices=("phone", "desktop"), history=10, rating_positive=4.0,
    )  # fmt: skip
    shape = Shape(
        rng.standard_normal((n, 16)).astype(np.float32), spec.profile_size, spec.context_size, spec.history
    )
    torch.manual_seed(SEED)
    network = TwoTower(shape, params.agent.network).eval()
    folder = export(network, spec, n > params.serving.exact_items, work, params.serving)
    url = f"sqlite:///{work}/store.db"
    engine = open_store(url)
    people = [f"p{number:06d}" for number in range(PEOPLE)]
    liked = rng.integers(0, n, (PEOPLE, 10))
    add_items(engine, [Item(item_id=f"i{i}", title=f"i{i}") for i in range(min(n, 5000))])
    add_users(engine, [User(user_id=one, age=30, sex="F") for one in people])
    acts = [
        Event(event_id=f"{who}-{place}", user_id=who, item_id=f"i{i}", kind="click", ts=place)
        for who, row_ in zip(people, liked.tolist(), strict=True)
        for place, i in enumerate(row_)
    ]
    append(engine, (), acts)
    return folder, url


@contextmanager
def slot(policy: Path, store: str, work: Path) -> Iterator[Server]:
    """Ours, as ``recloop up`` starts it."""
    built = build_bento(ROOT, policy, work / "var", {})
    port = free_port()
    command, environment = serve_command(built.tag, work / "var", work / "slots" / "blue", "127.0.0.1", port)
    with _serve(command, environment | {"RECLOOP_STORE_URL": store}, port) as server:
        yield server


@contextmanager
def plain(policy: Path, store: str) -> Iterator[Server]:
    """The peer."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.plain_slot", str(policy), store, str(port)]
    with _serve(command, dict(os.environ) | {"OPENBLAS_NUM_THREADS": "1"}, port) as server:
        yield server


@contextmanager
def _serve(command: list[str], environment: dict[str, str], port: int) -> Iterator[Server]:
    begun, url = time.perf_counter(), f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        command, env=environment, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/readyz", timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit(f"{command[2]} ended before it was ready") from None
                time.sleep(0.01)
        yield Server(url, time.perf_counter() - begun, process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(20)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5, quick=3)

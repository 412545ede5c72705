"""A million requests (120,000 with ``--quick``) while routing switches between two slots, through the
gateway.

The peer of the first rows is the same gateway without switches, in the same run: blocks take turns. Then
HAProxy, where it is installed, before the same slots: each of its switches is a reload (``-sf``, with the
listening socket handed over), as one would do without a gateway. Our switch is a new row of the store.
Sixteen connections ask in a closed loop and never ask again: what fails, fails. *Failed* counts requests
without a slate; the slots are bare servers that answer with a fixed slate, so that the way through is
what is measured. The gateway also writes every impression to disk before it answers, which HAProxy does
not: beside it only failures are compared.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from benchmarks.load import command, measure
from benchmarks.race import Row, main, median_ratio
from recloop.delivery.processes import free_port
from recloop.delivery.routing import Routing, Target, read_routing, write_routing
from recloop.schema import Item
from recloop.store import add_items, open_store

ROOT = Path(__file__).parents[1]
REQUESTS, QUICK = 1_000_000, 120_000
EVERY = 500  # requests between two switches, about
PAUSE = 0.3  # seconds between two switches at least: the gateway looks four times a second
CONFIG = """
global
    maxconn 1000
    stats socket {folder}/socket level admin expose-fd listeners
defaults
    mode http
    timeout connect 2s
    timeout client 30s
    timeout server 30s
frontend people
    bind 127.0.0.1:{port}
    default_backend slot
backend slot
    server {colour} {address}
"""


def cases(repeats: int) -> Iterator[Row]:
    """Blocks in turn: with switches, without."""
    blocks = repeats
    each = (REQUESTS if repeats > 3 else QUICK) // (2 * blocks)
    with tempfile.TemporaryDirectory(prefix="recloop-") as name, ExitStack() as stack:
        work = Path(name)
        slots = {c: Target(stack.enter_context(_slot(c)), c) for c in ("blue", "green")}
        engine = open_store(f"sqlite:///{work}/store.db")
        add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(5)])
        with engine.begin() as connection:
            write_routing(connection, 0, Routing(slots, "blue"), "benchmark", "first")

        def switch(colour: str) -> None:
            with engine.begin() as connection:
                version = read_routing(engine)[0]
                write_routing(connection, version, Routing(slots, colour), "benchmark", "switch")

        url = stack.enter_context(_gateway(work))
        measure(f"{url}/recommend", requests=500)
        runs = [
            (
                _switched(url, switch, each // EVERY, requests=each),
                (measure(f"{url}/recommend", requests=each), 0),
            )
            for _ in range(blocks)
        ]
        yield from _rows(runs)
        if shutil.which("haproxy") is None:
            return
        with _haproxy(work, slots) as (address, reload):
            wanted = blocks * each // EVERY
            done, reloads = _switched(address, reload, wanted, seconds=1.2 * PAUSE * wanted)
        ours = sum(pair[0][0]["failed"] for pair in runs)
        switches = sum(pair[0][1] for pair in runs)
        mine, other = 1 - ours / (each * blocks), 1 - done["failed"] / done["requests"]
        case = f"answered, {switches} switches in {each * blocks:,} requests"
        peer = f"HAProxy {_version()}, {reloads} reloads in {done['requests']:,}"
        yield Row(case, "share", mine, peer, other, *[mine / other] * 3, "higher", 1.0)


def _rows(runs: list) -> Iterator[Row]:
    total, switches = sum(a["requests"] for (a, _), _ in runs), sum(n for (_, n), _ in runs)
    failed = sum(a["failed"] for (a, _), _ in runs)
    name = f"{total:,} requests, {switches} switches"
    yield Row(f"{name}, failed", "requests", float(failed), *[None] * 5, "lower", 0.0)
    still = sum(b["failed"] for _, (b, _) in runs)
    yield Row("as many without switches, failed", "requests", float(still), *[None] * 5, "lower", 0.0)
    rates = np.array([[one["requests"] / one["seconds"] for (one, _) in pair] for pair in runs])
    ours, theirs = np.median(rates, axis=0)
    yield Row(
        name, "requests/s", ours, "no switches", theirs, *median_ratio(rates[:, 0] / rates[:, 1]),
        better="higher", limit=None,
    )  # fmt: skip
    for q in ("p50", "p99"):
        times = np.array([[one[q] for (one, _) in pair] for pair in runs])
        ours, theirs = np.median(times, axis=0)
        yield Row(
            f"{name}, {q}", "ms", ours, "no switches", theirs, *median_ratio(times[:, 1] / times[:, 0]),
            better="lower", limit=None,
        )  # fmt: skip


def _switched(url: str, switch: Callable[[str], None], wanted: int, **options: float) -> tuple[dict, int]:
    """A run during which ``switch`` is called up to ``wanted`` times; and how often it was."""
    load = subprocess.Popen(
        command(f"{url}/recommend", **options), stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    switches = 0
    while load.poll() is None:
        if switches < wanted:
            switch(("green", "blue")[switches % 2])
            switches += 1
        time.sleep(PAUSE)
    assert load.stdout is not None
    return json.load(load.stdout), switches


SLOT = """
import sys
import msgspec, uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route
name, items = sys.argv[1], [f"i{n}" for n in range(5)]
slate = {"items": items, "titles": items, "scores": [1.0] * 5, "propensities": [0.2] * 5, "policy": name}
async def recommend(request):
    await request.body()
    told = slate | {"request_id": request.headers.get("x-request-id", "none"), "fallback": False}
    return Response(msgspec.json.encode(told), media_type="application/json")
async def healthz(_):
    return Response()
app = Starlette(routes=[Route("/recommend", recommend, methods=["POST"]), Route("/healthz", healthz)])
uvicorn.run(
    app, port=int(sys.argv[2]), access_log=False, log_level="warning", loop="uvloop", http="httptools"
)
"""


@contextmanager
def _slot(name: str) -> Iterator[str]:
    port = free_port()
    with _process([sys.executable, "-c", SLOT, name, str(port)], port):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _gateway(work: Path) -> Iterator[str]:
    port = free_port()
    environment = {"RECLOOP_HOME": str(work), "RECLOOP_STORE_URL": "", "RECLOOP_CONSENT": "assumed"}
    program = [sys.executable, "-m", "recloop.web", "--port", str(port)]
    with _process([*program, "--params", str(ROOT / "params.yaml")], port, environment):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def _process(words: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[None]:
    process = subprocess.Popen(words, env=os.environ | (environment or {}), cwd=ROOT)
    try:
        _until_ready(f"http://127.0.0.1:{port}/healthz", process)
        yield
    finally:
        process.terminate()
        process.wait(20)


def _until_ready(url: str, process: subprocess.Popen) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
            return
        except OSError:
            if process.poll() is not None:
                raise SystemExit(f"{url} ended before it was ready") from None
            time.sleep(0.05)


@contextmanager
def _haproxy(work: Path, slots: dict[str, Target]) -> Iterator[tuple[str, Callable[[str], None]]]:
    """Its address, and what reloads it with another slot behind it."""
    port, file = free_port(), work / "haproxy.cfg"
    running: list[subprocess.Popen] = []

    def reload(colour: str) -> None:
        address = slots[colour].url.removeprefix("http://")
        file.write_text(CONFIG.format(folder=work, port=port, colour=colour, address=address))
        words = ["haproxy", "-db", "-f", str(file)]
        if running:
            words += ["-x", f"{work}/socket", "-sf", str(running[-1].pid)]
        running.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        _until_ready(f"http://127.0.0.1:{port}/healthz", running[-1])

    reload("blue")
    try:
        yield f"http://127.0.0.1:{port}", reload
    finally:
        for process in running:
            process.terminate()
            process.wait(40)


def _version() -> str:
    return subprocess.run(["haproxy", "-v"], capture_output=True, text=True).stdout.split()[2].split("-")[0]


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5, quick=3)

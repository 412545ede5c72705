"""Taking in single acts of feedback: the group-commit writer beside a transaction for each act.

Both acknowledge an act when it is on the disk: SQLite in WAL mode with full synchronisation, PostgreSQL with
synchronous commit, in a cluster of the benchmark's own. As many clients as the case names each send an act
when the one before is acknowledged. The peer is `append`, which the slots use, on a thread for each client,
sixteen at most. The limit is how often the disk takes a page (4 KiB) and says that it has it, times the
clients: so many acts at most can share a synchronisation.

What keeping an act adds to its request is the time from handing it over to the acknowledgement, here while
200 a second come at random (Poisson). The peer writes each on a thread of a pool, as an endpoint of Starlette
would; the limit is one synchronisation.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import uvloop
from sqlalchemy import Engine

from benchmarks.race import Row, main, median_ratio, race
from recloop.schema import Event, now_us
from recloop.store import Writer, append, open_store
from recloop.store.snapshot import watermark
from tests.postgres import Absent, Cluster

CLIENTS = (1, 16, 256)
RATE = 200  # acts that come in a second where what one waits is measured
SECONDS = 2.0  # that a run of the peer takes, about


class Acts:
    """Acts of feedback that were not there before."""

    def __init__(self) -> None:
        self._number = 0

    def take(self, count: int) -> list[Event]:
        """The next ones."""
        first, self._number = self._number, self._number + count
        return [
            Event(event_id=f"e{n}", user_id=f"u{n % 997}", item_id=f"i{n % 101}", kind="click", ts=now_us())
            for n in range(first, first + count)
        ]


def grouped(writer: Writer, acts: list[Event], clients: int) -> None:
    """Every client waits for its act to be acknowledged before it sends the next, as the gateway's do."""

    async def client(mine: list[Event]) -> None:
        for act in mine:
            await writer.submit(acts=[act])

    async def all_of_them() -> None:
        await asyncio.gather(*(client(acts[n::clients]) for n in range(clients)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:  # as the gateway has it
        runner.run(all_of_them())


def one_by_one(engine: Engine, acts: list[Event], clients: int) -> None:
    """A transaction for each act; a thread for each client, sixteen at most."""

    def client(mine: list[Event]) -> None:
        for act in mine:
            append(engine, acts=[act])

    threads = min(clients, 16)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(client, [acts[n::threads] for n in range(threads)]))


def waits(keep: Callable[[Event], Awaitable[object]], acts: list[Event]) -> np.ndarray:
    """Seconds, float (N,), from an act's coming, at random times, to its acknowledgement."""
    apart = np.random.default_rng(len(acts)).exponential(1 / RATE, len(acts))

    async def one(act: Event) -> float:
        begun = time.perf_counter()
        await keep(act)
        return time.perf_counter() - begun

    async def all_of_them() -> list[float]:
        begun = []
        for act, seconds in zip(acts, apart, strict=True):
            await asyncio.sleep(seconds)
            begun.append(asyncio.create_task(one(act)))
        return await asyncio.gather(*begun)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return np.array(runner.run(all_of_them()))


def latency(name: str, engine: Engine, acts: Acts, writer: Writer, limit: float, repeats: int) -> Row:
    """The median wait for an acknowledgement, in ms."""
    with ThreadPoolExecutor(16) as pool:

        async def alone(act: Event) -> None:
            await asyncio.get_running_loop().run_in_executor(pool, lambda: append(engine, acts=[act]))

        def median(keep: Callable[[Event], Awaitable[object]]) -> float:
            return float(np.median(waits(keep, acts.take(RATE)))) * 1e3

        def both() -> tuple[float, float]:
            return median(lambda act: writer.submit(acts=[act])), median(alone)

        both()
        times = np.array([both() for _ in range(repeats)])
    ours, theirs = np.median(times, 0)
    return Row(
        f"{name}, wait of one in {RATE} a second, p50", "ms", ours, "a commit for each act", theirs,
        *median_ratio(times[:, 1] / times[:, 0]), better="lower", limit=1e3 / limit,
    )  # fmt: skip


def synchronisations(folder: Path, seconds: float = 1.0) -> float:
    """How often per second the disk takes a page over an old one, as into a log, and says that it has it."""
    size, count = 4096, 0
    page = os.urandom(size)
    with (folder / "probe").open("wb", buffering=0) as file:
        file.write(page * 1024)
        os.fsync(file.fileno())
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            os.pwrite(file.fileno(), page, count % 1024 * size)
            os.fdatasync(file.fileno())
            count += 1
    return count / seconds


def beside(name: str, engine: Engine, limit: float, repeats: int) -> Iterator[Row]:
    """The cases of one engine."""
    acts = Acts()
    with Writer(engine) as writer:
        yield latency(name, engine, acts, writer, limit, repeats)  # first: no server still tidies up
        for clients in CLIENTS:
            begun = time.perf_counter()
            one_by_one(engine, acts.take(200), clients)
            count = (
                int(200 * max(1.0, SECONDS / (time.perf_counter() - begun))) // clients * clients or clients
            )

            mine, other = (iter([acts.take(count) for _ in range(repeats + 1)]) for _ in range(2))

            def ours(mine: Iterator[list[Event]] = mine, clients: int = clients) -> None:
                grouped(writer, next(mine), clients)

            def theirs(other: Iterator[list[Event]] = other, clients: int = clients) -> None:
                one_by_one(engine, next(other), clients)

            case, peer = f"{name}, {clients} clients", "a commit for each act"
            yield race(case, ours, peer, theirs, count, "acts/s", repeats, limit * clients)
    kept = watermark(engine).events
    if kept != acts._number:
        raise SystemExit(f"{name} kept {kept} of {acts._number} acts")


def cases(repeats: int) -> Iterator[Row]:
    """SQLite, and PostgreSQL where its programs are installed."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("RECLOOP_HOME", ".")) as folder:
        limit = synchronisations(Path(folder))
        engine = open_store(f"sqlite:///{folder}/s.db")
        yield from beside("SQLite", engine, limit, repeats)
        engine.dispose()
    try:
        cluster = Cluster("-c listen_addresses=")
    except Absent as error:
        print(f"PostgreSQL is left out: {error}")
        return
    try:
        engine = open_store(cluster.new())
        yield from beside("PostgreSQL", engine, limit, repeats)
        engine.dispose()
    finally:
        cluster.stop()


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=11, quick=5)

"""A look of the watch at a store, once a minute, beside the first look of a process, which reads everything.

Half of the impressions have come since the last training. Before each look come another 800 of them, with
their acts. PostgreSQL where it is installed.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from sqlalchemy import Engine

from benchmarks.dashboard import POLICIES, SLATE, fill
from benchmarks.race import Row, main, median_ratio
from recloop.schema import Event, EventKind, Impression, now_us
from recloop.settings import load_params
from recloop.store import append, open_store
from recloop.store.snapshot import watermark
from recloop.watch import check
from recloop.watch.figures import MARK
from recloop.watch.memory import Memory
from tests.postgres import Absent, Cluster

SIZES = (50_000, 1_000_000)
MINUTE = 100  # requests between looks
PEER = "its first look"


def come(engine: Engine, turn: int) -> None:
    """A minute of people, who click on the first item."""
    shown, acts, now = [], [], now_us()
    for n in range(MINUTE):
        request, who = f"new-{turn}-{n}", f"u{(turn * MINUTE + n) * 7919 % 50_000}"
        for place in range(SLATE):
            shown.append(
                Impression(
                    request_id=request, position=place, user_id=who, item_id=f"i{n * SLATE + place}",
                    propensity=0.1, policy=f"dqn-{n % POLICIES}", slot="blue", ts=now,
                )
            )  # fmt: skip
        acts.append(
            Event(
                event_id=request, user_id=who, item_id=f"i{n * SLATE}", kind=EventKind.CLICK, value=1.0,
                request_id=request, ts=now,
            )
        )  # fmt: skip
    append(engine, shown, acts)


def looks(engine: Engine, count: int, repeats: int) -> Iterator[tuple[float, float]]:
    """Seconds of a look that remembers the one before, and of one that does not."""
    params, memory = load_params(), Memory()
    replace(watermark(engine), impressions=count // 2).save(MARK)
    begun = time.perf_counter()
    check(engine, params, memory=memory)
    print(f"  the very first look, which digests the last five weeks: {time.perf_counter() - begun:.2f} s")
    check(engine, params)
    for turn in range(repeats):
        come(engine, turn)
        seconds = []
        for remembered in (memory, None):
            begun = time.perf_counter()
            check(engine, params, memory=remembered)
            seconds.append(time.perf_counter() - begun)
        yield seconds[0], seconds[1]


@contextmanager
def stores() -> Iterator[list[tuple[str, list[str]]]]:
    """Names of engines, each with the URLs of empty stores."""
    found = [("SQLite", [f"sqlite:///{Path.cwd()}/{size}.db" for size in SIZES])]
    try:
        cluster = Cluster("-c max_connections=20 -c listen_addresses=")
    except Absent as absent:
        print(absent)
        yield found
        return
    try:
        yield [*found, ("PostgreSQL", [cluster.new() for _ in SIZES])]
    finally:
        cluster.stop()


def cases(repeats: int) -> Iterator[Row]:
    """Both sizes on both engines."""
    params = Path("params.yaml").read_text()
    with tempfile.TemporaryDirectory() as folder, chdir(folder), stores() as found:
        Path("params.yaml").write_text(params)
        MARK.parent.mkdir()
        os.environ["RECLOOP_HOME"] = folder
        for name, urls in found:
            for size, url in zip(SIZES, urls, strict=True):
                engine = open_store(url)
                fill(engine, size)
                seconds = np.array(list(looks(engine, size, repeats)))
                engine.dispose()
                mine, other = (float(np.median(column)) for column in seconds.T)
                ratio = median_ratio(seconds[:, 1] / seconds[:, 0])
                case = f"a look at {size:,} impressions, {name}"
                yield Row(case, "s", mine, PEER, other, *ratio, better="lower", limit=None)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=9, quick=5)

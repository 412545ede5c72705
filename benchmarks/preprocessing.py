"""Preprocessing of a log of 10 million events: ours beside a straightforward pandas implementation.

Both read the same clean Parquet files (a fifth as many requests as events, slates of five, 50 events per
person, 20,000 items) and leave the same files; every array is compared, and a difference ends the benchmark.
Each run is a process of its own, whose peak memory is its own, and writes into a new folder; starting Python
is not counted. The limit is reading the log and writing as many bytes as the result has.
"""

import multiprocessing
import shutil
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import polars as pl
from tqdm import tqdm

from benchmarks.pandas_features import build_on_pandas
from benchmarks.race import Row, main, median_ratio
from recloop.features.build import build_features
from recloop.schema.arrow import TABLES
from recloop.settings import load_params
from recloop.settings.memory import peak_memory
from recloop.settings.params import FeatureParams, RewardParams

Build = Callable[[Path, Path, FeatureParams, RewardParams], object]
EVENTS, QUICK_EVENTS, QUICK_REPEATS = 10_000_000, 1_000_000, 3
SLATE, PER_PERSON, ITEMS = 5, 50, 20_000
START, SPAN = 1_700_000_000_000_000, 60 * 86_400_000_000  # µs
KINDS = {"view": 0.5, "click": 0.3, "cart": 0.08, "purchase": 0.02, "rating": 0.05, "dismiss": 0.05}


def write_log(folder: Path, events: int, seed: int = 0) -> None:
    """A clean snapshot with so many events."""
    rng = np.random.default_rng(seed)
    people, requests = events // PER_PERSON, events // SLATE
    asked = np.sort(rng.integers(0, SPAN, requests)) + START
    who = rng.integers(0, people, requests)
    shown = pl.DataFrame(
        {
            "request": np.repeat(np.arange(requests), SLATE),
            "position": np.tile(np.arange(SLATE), requests),
            "user": np.repeat(who, SLATE),
            "item": (rng.integers(0, ITEMS, requests)[:, None] + np.arange(SLATE)).ravel() % ITEMS,
            "propensity": rng.uniform(0.01, 1, requests * SLATE),
            "device": np.repeat(rng.integers(0, 4, requests), SLATE),
            "ts": np.repeat(asked, SLATE),
        }
    ).with_columns(policy=pl.lit("p"), slot=pl.lit("blue"), partial=pl.lit(False))
    acts = shown[np.sort(rng.integers(0, len(shown), events))].select("request", "user", "item", "ts")
    kinds = pl.Series(list(KINDS)).gather(rng.choice(len(KINDS), events, p=list(KINDS.values())))
    acts = acts.with_columns(
        n=pl.Series(np.arange(events)), kind=kinds, value=pl.Series(rng.integers(1, 6, events).astype(float)),
        ts=pl.col("ts") + pl.Series(rng.integers(1, 600_000_000, events)),
    )  # fmt: skip
    ids = {"request": "r", "user": "u", "item": "i", "n": "e"}
    named = {"request": "request_id", "user": "user_id", "item": "item_id", "n": "event_id"}

    def save(name: str, frame: pl.DataFrame) -> None:
        spelt = [pl.format(ids[c] + "{}", c).alias(named[c]) for c in named if c in frame.columns]
        frame = frame.with_columns(spelt)
        if "device" in frame.columns:
            frame = frame.with_columns(pl.format("device{}", "device").alias("device"))
        schema = TABLES[name]
        made = frame.select(schema.names).with_columns(
            pl.col("^(ts|created_at)$").cast(pl.Datetime("us", "UTC"))
        )
        pl.from_arrow(made.to_arrow().cast(schema)).write_parquet(folder / f"{name}.parquet")

    n = np.arange(people)
    save("impressions", shown)
    save("events", acts)
    save(
        "users",
        pl.DataFrame(
            {"user": n, "age": n % 80 + 10, "sex": pl.Series(["F", "M"]).gather(n % 2)}
        ).with_columns(
            region=pl.format("region {}", pl.col("user") % 12),
            attributes=pl.concat_str(
                pl.lit('{"job": "job '),
                pl.col("user") % 20,
                pl.lit('", "visits": '),
                pl.col("user") % 7,
                pl.lit("}"),
            ),
            created_at=START,
        ),
    )
    n = np.arange(ITEMS)
    save(
        "items",
        pl.DataFrame({"item": n, "price": n % 100 + 0.5}).with_columns(
            title=pl.format("Item {}", "item"), category=pl.format("c{}", pl.col("item") % 30),
            available=pl.lit(True), text=pl.lit(None), image=pl.lit(None), attributes=pl.lit("{}"),
            created_at=START,
        ),
    )  # fmt: skip


def apart(build: Build, valid: Path, out: Path) -> tuple[float, float]:
    """Seconds and peak GB of one run in a process of its own, into a new folder, as DVC runs a stage."""
    shutil.rmtree(out, ignore_errors=True)
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_measured, args=(there, build, valid, out))
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.join()


def _measured(answer: Connection, build: Build, valid: Path, out: Path) -> None:
    params = load_params()
    began = time.perf_counter()
    build(valid, out, params.features, params.reward)
    spent = time.perf_counter() - began
    answer.send((spent, peak_memory() / 1e9))


def compare(ours: Path, theirs: Path) -> None:
    """Stop where a file differs in any array."""
    for file in sorted(ours.iterdir()):
        other = theirs / file.name
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as mine, np.load(other, allow_pickle=False) as peer:
                same = mine.files == peer.files and all(
                    np.array_equal(mine[name], peer[name], equal_nan=mine[name].dtype.kind == "f")
                    for name in mine.files
                )
        else:
            same = file.read_bytes() == other.read_bytes()
        if not same:
            raise SystemExit(f"{file.name} is not what the peer makes")


def pass_through(valid: Path, made: Path, out: Path) -> None:
    """Read the log, and write as many bytes as there are in the result."""
    for file in valid.iterdir():
        pl.read_parquet(file)
    for file in made.iterdir():
        (out / file.name).write_bytes(bytes(file.stat().st_size))


def cases(repeats: int) -> Iterator[Row]:
    """Events per second, and peak memory."""
    events = QUICK_EVENTS if repeats <= QUICK_REPEATS else EVENTS
    with tempfile.TemporaryDirectory() as folder:
        valid, ours, theirs = (Path(folder) / name for name in ("valid", "ours", "theirs"))
        valid.mkdir()
        write_log(valid, events)
        runs = np.array(
            [
                (apart(build_features, valid, ours), apart(build_on_pandas, valid, theirs))
                for _ in tqdm(range(repeats), desc="preprocessing")
            ]
        )  # (repeats, who, seconds and GB)
        compare(ours, theirs)
        passing = min(timeit.repeat(lambda: pass_through(valid, ours, theirs), number=1, repeat=3))
    peer = f"pandas {version('pandas')}"
    speed, memory = np.median(runs, 0).T
    case = f"{events:,} events"
    yield Row(
        case, "events/s", events / speed[0], peer, events / speed[1],
        *median_ratio(runs[:, 1, 0] / runs[:, 0, 0]), better="higher", limit=events / passing,
    )  # fmt: skip
    yield Row(
        f"{case}, peak memory", "GB", memory[0], peer, memory[1],
        *median_ratio(runs[:, 1, 1] / runs[:, 0, 1]), better="lower", limit=None,
    )  # fmt: skip


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5, quick=QUICK_REPEATS)

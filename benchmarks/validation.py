"""The declared suites on 10 million rows: the fused scan beside Great Expectations on pandas.

Both run the same suite as a checkpoint, with the same result format, in a context of their own: once from a
Parquet file, of which both read only the columns that the suite names, and once from a frame in memory, ours
of Polars, theirs of pandas. Verdicts, counts and samples are compared, and a difference ends the benchmark.
Clean rows fail nothing; of dirty ones a thousandth of each column is spoilt. The limit is reading these
columns. Memory is the peak of a process of its own that judges the clean file once.
"""

import tempfile
import timeit
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import great_expectations as gx
import numpy as np
import pandas as pd
import polars as pl
from great_expectations.data_context.types.base import ProgressBarsConfig

from benchmarks.race import Row, main, race
from recloop.quality.checks import Check
from recloop.quality.judge import Judge, run_suite
from recloop.quality.suites import SUITES
from recloop.schema import EventKind
from recloop.settings.memory import peak_memory

ROWS = 10_000_000
QUICK_REPEATS, QUICK_ROWS = 3, 2_000_000
IDS = (
    ("e", "n", "event_id"),
    ("u", "user", "user_id"),
    ("i", "item", "item_id"),
    ("r", "n", "request_id"),
)
HELD = [
    check.name
    for check in SUITES["events"]
    if check.expectation.configuration.kwargs.get("column") == check.name
]


def events(rows: int, bad_share: float, seed: int = 0) -> pl.DataFrame:
    """Events with the derived columns that the suite asks for; ``bad_share`` of each column is spoilt."""
    rng = np.random.default_rng(seed)
    kinds = pl.Series([str(kind) for kind in EventKind])
    frame = pl.DataFrame({
        "n": np.arange(rows), "user": rng.integers(0, rows // 50 + 1, rows),
        "item": rng.integers(0, 20_000, rows), "kind": kinds.gather(rng.choice(len(kinds), rows)),
        "value": rng.integers(1, 6, rows).astype(float),
    })  # fmt: skip
    frame = frame.select(
        "kind",
        "value",
        *[pl.format(letter + "{}", n).alias(name) for letter, n, name in IDS],
        (1_700_000_000_000_000 + pl.col("n") * 1_000_000).cast(pl.Datetime("us", "UTC")).alias("ts"),
        pl.when(pl.col("kind") == "rating").then("value").alias("stars"),
        *[pl.lit(True).alias(name) for name in HELD],
    )
    if not bad_share:
        return frame
    spoilt = {
        name: pl.when(pl.lit(pl.Series(rng.random(rows) < bad_share))).then(value).otherwise(name)
        for name, value in {
            "event_id": pl.lit("e 1"), "user_id": None, "item_id": None, "kind": pl.lit("stare"),
            "value": pl.lit(-1.0), "ts": None, "stars": pl.lit(7.0), **dict.fromkeys(HELD, pl.lit(False)),
        }.items()
    }  # fmt: skip
    return frame.with_columns(**spoilt)


def on_pandas(table: str, frame: pd.DataFrame, checks: list[Check]) -> Any:
    """The verdict of Great Expectations on its own pandas engine."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    source = context.data_sources.add_pandas("snapshot")
    batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe("whole")
    return run_suite(context, table, batch, frame, checks)


def figures(verdict: Any) -> dict[str, dict]:
    """What a verdict says of each check: success, counts, shares and samples."""
    found = {}
    for result in verdict.results:
        content = result.to_json_dict()
        name = content["expectation_config"]["meta"]["name"]
        found[name] = {key: content[key] for key in ("success", "result", "exception_info")}
    return found


CHECKS = SUITES["events"]
PEER = "Great Expectations on pandas"


def columns() -> list[str]:
    """The columns that the suite names."""
    asked = [check.expectation.configuration.kwargs.get("column") for check in CHECKS]
    return list(dict.fromkeys(name for name in asked if name))


def judged(file: Path, docs: Path) -> dict[str, dict]:
    """Our verdict on a file."""
    return figures(Judge(docs).verdict("events", pl.scan_parquet(file), CHECKS))


def judged_by_pandas(file: Path, docs: Path) -> dict[str, dict]:
    """GX's."""
    return figures(on_pandas("events", pd.read_parquet(file, columns=columns()), CHECKS))


def peak(judge: Callable[[Path, Path], dict], file: Path, docs: Path) -> float:
    """MB that a process which does this and nothing else had at most."""
    with ProcessPoolExecutor(1, get_context("spawn")) as alone:
        return alone.submit(_peak, judge, file, docs).result()


def _peak(judge: Callable[[Path, Path], dict], file: Path, docs: Path) -> float:
    judge(file, docs)
    return peak_memory() / 1e6


def cases(repeats: int) -> Iterator[Row]:
    """The suite of events on clean and on dirty rows."""
    rows = QUICK_ROWS if repeats <= QUICK_REPEATS else ROWS
    for name, bad_share in (("clean", 0.0), ("dirty", 0.001)):
        with tempfile.TemporaryDirectory() as folder:
            yield from judged_rows(Path(folder), name, bad_share, rows, repeats)


def judged_rows(folder: Path, name: str, bad_share: float, rows: int, repeats: int) -> Iterator[Row]:
    """From a file, and from memory; of clean rows also the memory that it takes."""
    file, docs = folder / f"{name}.parquet", folder / "docs"
    events(rows, bad_share).write_parquet(file)
    if not bad_share:
        ours, theirs = (peak(judge, file, docs) for judge in (judged, judged_by_pandas))
        ratio = theirs / ours
        yield Row(
            f"memory for {rows:,} {name} rows", "MB", ours, PEER, theirs, ratio, ratio, ratio, "lower", None
        )
    limit = rows / min(timeit.repeat(lambda: pl.read_parquet(file, columns=columns()), number=1, repeat=3))
    yield _race(
        f"{len(CHECKS)} expectations, {rows:,} {name} rows", rows, repeats, limit,
        lambda: judged(file, docs), lambda: judged_by_pandas(file, docs),
    )  # fmt: skip
    frame = pl.read_parquet(file, columns=columns())
    other = frame.to_pandas()
    yield _race(
        f"the same, {rows:,} {name} rows in memory", rows, repeats, None,
        lambda: figures(Judge(docs).verdict("events", frame, CHECKS)),
        lambda: figures(on_pandas("events", other, CHECKS)),
    )  # fmt: skip


def _race(
    case: str,
    rows: int,
    repeats: int,
    limit: float | None,
    ours: Callable[[], dict],
    theirs: Callable[[], dict],
) -> Row:
    if (mine := ours()) != (other := theirs()):
        raise SystemExit(f"{case}: the verdicts differ: {mine} and {other}")
    return race(case, ours, PEER, theirs, rows, "rows/s", repeats, limit)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=9, quick=QUICK_REPEATS)

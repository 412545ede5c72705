"""One case of a benchmark: we and a peer do the same work in turn; a table and a JSON file come of it."""

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

SEED = 0


@dataclass(frozen=True)
class Row:
    """A measured case; ``ratio`` above 1 is good, ``low`` and ``high`` bound it at 95 %.

    Where no peer does the same, ``peer``, ``theirs``, ``ratio``, ``low`` and ``high`` are None.

    Attributes:
        case: what was done.
        unit: of ``ours``, ``theirs`` and ``limit``.
        ours: our figure.
        peer: whom we are measured beside.
        theirs: the peer's figure.
        ratio: ours to theirs, turned so that more is better.
        low: lower bound of the ratio.
        high: upper bound of the ratio.
        better: whether a higher or a lower figure is better.
        limit: the physical limit, or None.
    """

    case: str
    unit: str
    ours: float
    peer: str | None
    theirs: float | None
    ratio: float | None
    low: float | None
    high: float | None
    better: Literal["higher", "lower"]
    limit: float | None


def race(
    case: str,
    ours: Callable[[], object],
    peer: str,
    theirs: Callable[[], object],
    work: float,
    unit: str,
    repeats: int,
    limit: float | None = None,
) -> Row:
    """Time both in turn, after one run each to warm up; figures are work per median second."""
    ours(), theirs()
    seconds = np.array([[_seconds(run) for run in (ours, theirs)] for _ in range(repeats)])
    mine, other = (float(work / np.median(column)) for column in seconds.T)
    return Row(
        case, unit, mine, peer, other, *median_ratio(seconds[:, 1] / seconds[:, 0]), better="higher",
        limit=limit,
    )  # fmt: skip


def median_ratio(ratios: np.ndarray) -> tuple[float, float, float]:
    """Median of float (repeats,), and its 95 % interval by the bootstrap."""
    medians = np.median(np.random.default_rng(SEED).choice(ratios, (2000, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def _seconds(run: Callable[[], object]) -> float:
    gc.collect()  # what the other left behind is not ours to clear away
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main(cases: Callable[[int], Iterator[Row]], description: str, repeats: int = 9, quick: int = 3) -> None:
    """Run the cases with their number of repeats; print a table; write the rows where ``--json`` says."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true", help=f"{quick} repeats instead of {repeats}")
    parser.add_argument("--json", type=Path, help="where to write the rows")
    arguments = parser.parse_args()
    rows = []
    print(f"{'case':<44}{'ours':>12}{'theirs':>12}  {'unit':<14}{'ratio':>7}  {'95 %':<14}peer")
    for row in cases(quick if arguments.quick else repeats):
        rows.append(asdict(row))
        beside = ""
        if row.peer is not None:
            bounds = f"{row.low:.2f} to {row.high:.2f}"
            beside = f"{row.ratio:>7.2f}  {bounds:<14}{row.peer}"
        print(
            f"{row.case:<44}{short(row.ours):>12}{short(row.theirs):>12}  {row.unit:<14}{beside}", flush=True
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n")


def short(figure: float | None) -> str:
    """Three digits, or whole thousands; nothing for None."""
    if figure is None:
        return ""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"

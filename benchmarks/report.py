"""A document of what the benchmarks measured: ``python -m benchmarks.report FOLDER [--out FILE]``.

Reads ``FOLDER/NAME.json``, the rows of ``python -m benchmarks.NAME --json``; writes FILE
(``docs/benchmarks.md``), and beside it a folder of its name with a plot per benchmark. The same rows give the
same bytes.
"""

import argparse
import ast
import json
import math
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from pydantic import TypeAdapter, ValidationError
from tqdm import tqdm

from benchmarks.machine import RECORD, circumstances, machine, read_record
from benchmarks.race import Row, short

HERE = Path(__file__).parent
STYLE = {"svg.hashsalt": "recloop", "svg.fonttype": "none", "font.size": 8}
BETTER, WORSE = "tab:blue", "tab:orange"
INTRODUCTION = """# Benchmarks

Written by `python -m benchmarks.report` from the rows of `python -m benchmarks.all`; not by hand.

We and the peer do the same work in turn, in one run on one machine. *Ratio*: ours to theirs, turned so that
more is better for us, with a 95 % interval. *Of the limit*: our share of what the machine could do at best,
where a benchmark can say what that is. *Load*: processes that ran or wanted to; where they are more than the
cores, the figures are of a busy machine and worth little. In the plots, what lies right of 1 speaks for us.
"""


class BadRowsError(ValueError):
    """Rows that cannot be reported; the message names file and row."""


def read_rows(path: Path) -> list[Row]:
    """The rows of one benchmark.

    Raises:
        BadRowsError: no JSON, no rows, or a row that is not one.
    """
    try:
        found = json.loads(path.read_text())
    except ValueError as error:
        raise BadRowsError(f"{path}: this is no JSON ({error}); measure it again") from error
    if not isinstance(found, list) or not found:
        raise BadRowsError(f"{path}: expected a list of rows, and at least one; measure it again")
    return [_row(f"{path}, row {place}", one) for place, one in enumerate(found, 1)]


def _row(where: str, found: Any) -> Row:
    try:
        row = TypeAdapter(Row).validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise BadRowsError(f"{where}: {field}: {first['msg']}") from error
    beside = {name: getattr(row, name) for name in ("theirs", "ratio", "low", "high")}
    figures = {"ours": row.ours, **beside, "limit": row.limit}
    for name, figure in figures.items():
        if figure is not None and not math.isfinite(figure):
            raise BadRowsError(f"{where}: {name} is {figure}, which is no figure")
    if len({x is None for x in (row.peer, *beside.values())}) > 1:
        raise BadRowsError(f"{where}: peer, {', '.join(beside)} must all be given, or all be null")
    if row.low is not None and row.high is not None and not 0 < row.low <= row.high:
        raise BadRowsError(f"{where}: low {row.low} and high {row.high} are not in order, or not above 0")
    if row.ratio is not None and row.ratio <= 0:
        raise BadRowsError(f"{where}: ratio is {row.ratio}, but must be above 0")
    return row


def about(name: str, modules: Path = HERE) -> str:
    """What the benchmark's docstring says, without the commands in it."""
    path = modules / f"{name}.py"
    said = ast.get_docstring(ast.parse(path.read_text())) if path.exists() else None
    if not said:
        raise BadRowsError(f"{name}.json: no benchmark of this name says what it measures ({path})")
    paragraphs = said.split("\n\n")
    return "\n\n".join(one for one in paragraphs if not one.startswith("    ")).replace("``", "`")


def table(rows: list[Row]) -> list[str]:
    """Lines of Markdown."""
    lines = ["| case | unit | ours | theirs | ratio (95 %) | of the limit | peer |"]
    lines.append("|---|---|--:|--:|--:|--:|---|")
    for row in rows:
        ratio = "" if row.ratio is None else f"{_times(row.ratio)} ({_times(row.low)} to {_times(row.high)})"
        cells = [row.case, row.unit, short(row.ours), short(row.theirs), ratio, _share(row), row.peer or ""]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return lines


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _share(row: Row) -> str:
    """Of the limit, from whichever side the figures come to it."""
    if not row.limit or not row.ours:
        return ""
    share = row.ours / row.limit if row.better == "higher" else row.limit / row.ours
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def plot(rows: list[Row], path: Path) -> bool:
    """Bars from 1 to each ratio with its interval; False where no row has a peer."""
    shown = [row for row in reversed(rows) if row.ratio is not None]
    if not shown:
        path.unlink(missing_ok=True)
        return False
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8, 0.42 * len(shown) + 0.8), layout="constrained")
        axes = figure.subplots()
        for place, row in enumerate(shown):
            assert row.ratio is not None
            assert row.low is not None
            assert row.high is not None
            axes.barh(place, row.ratio - 1, left=1, height=0.6, color=BETTER if row.ratio >= 1 else WORSE)
            axes.plot([row.low, row.high], [place, place], color="black", linewidth=1, marker="|")
        axes.axvline(1, color="black", linewidth=0.8)
        _scale(axes, shown)
        axes.set_yticks(range(len(shown)), [f"{row.case}\n{row.peer}".replace("$", r"\$") for row in shown])
        axes.set_xlabel("ours to theirs, 95 % interval; more is better")
        axes.grid(axis="x", alpha=0.3)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    return True


def _scale(axes: Axes, shown: list[Row]) -> None:
    """Logarithmic, from a half to the double at least, with plain numbers."""
    ends = [x for row in shown for x in (row.ratio, row.low, row.high) if x is not None]
    low, high = min(0.5, 0.8 * min(ends)), max(2.0, 1.25 * max(ends))
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def section(name: str, rows: list[Row], run: dict[str, Any] | None, plots: Path) -> list[str]:
    """What one benchmark measures, how to run it, its table and its plot."""
    quick = " --quick" if run and run["quick"] else ""
    lines = [f"## {name}", "", about(name), "", f"`python -m benchmarks.{name}{quick}`", ""]
    if run:
        lines[-2] += f", at commit {run['commit']}, {run['date']}"
        lines[-2] += f", load {run['load']}" if "load" in run else ""
    lines += [*table(rows), ""]
    if plot(rows, plots / f"{name}.svg"):
        lines += [f"![ratios of {name}]({plots.name}/{name}.svg)", ""]
    return lines


def describe(found: dict[str, Any]) -> list[str]:
    """Lines about the machine."""
    packages = ", ".join(f"{name} {version}" for name, version in found["packages"].items())
    return [
        "## The machine", "",
        f"{found['cores']} cores ({found['processor']}), {found['memory_gb']} GB of memory,"
        f" {found['system']}, Python {found['python']}.", "", f"{packages}.",
    ]  # fmt: skip


def write(folder: Path, out: Path) -> None:
    """Write the document and its plots.

    Raises:
        BadRowsError: see ``read_rows``; then nothing is written.
    """
    paths = sorted(path for path in folder.glob("*.json") if path.name != RECORD)
    if not paths:
        raise BadRowsError(f"{folder}: no rows here; `python -m benchmarks.all {folder}` measures some")
    every = {path.stem: read_rows(path) for path in paths}
    for name in every:
        about(name)
    record = read_record(folder)
    lines = [INTRODUCTION]
    for name, rows in tqdm(every.items(), desc="report", mininterval=1):
        lines += section(name, rows, record["runs"].get(name), out.parent / out.stem)
    lines += describe(record["machine"] or machine())
    if not record["runs"]:
        now = circumstances(quick=False)
        lines[-1] += f" Reported at commit {now['commit']}, {now['date']}."
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text("\n".join(lines) + "\n")


def main() -> None:
    """Read, check, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="of the rows")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks.md"))
    asked = parser.parse_args()
    try:
        write(asked.folder, asked.out)
    except BadRowsError as error:
        raise SystemExit(str(error)) from error


if __name__ == "__main__":
    main()

"""What a demo did: each stage with its time, memory, key figure and where to look; kept on disk."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil
from rich.console import Console
from rich.table import Table

MB = 1024**2
SAMPLE_SECONDS = 0.7
WIDTHS = {"stage": 18, "s": 6, "MB": 5, "key figure": 62, "where to look": 30}


@dataclass
class Line:
    """One stage of the summary."""

    stage: str
    seconds: float
    peak_mb: int
    figure: str
    look: str


@dataclass
class Record:
    """The summary as it grows, and the figures that the plot needs.

    Attributes:
        path: where it is kept.
        fingerprint: of code, parameters and dataset; a record of another one is begun anew.
        complete: the run that it tells of came to its end.
        lines: the stages.
        figures: what later stages and the plot need.
    """

    path: Path
    fingerprint: str
    complete: bool = False
    lines: list[Line] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, home: Path, fingerprint: str) -> Self:
        """The record of a finished run with this fingerprint, if its data version is still the one in data/;
        else an empty one."""
        path = home / "demo.json"
        if path.exists():
            kept = json.loads(path.read_text())
            if (kept.get("fingerprint"), kept.get("data_version")) == (fingerprint, _data_version()):
                lines = [Line(**line) for line in kept["lines"]]
                return cls(path, fingerprint, True, lines, kept["figures"])
        return cls(path, fingerprint)

    def close(self) -> None:
        """Keep it: the run is complete."""
        self.complete = True
        content = {
            "fingerprint": self.fingerprint,
            "data_version": _data_version(),
            "lines": [asdict(line) for line in self.lines],
            "figures": self.figures,
        }
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1) + "\n")
        new.rename(self.path)

    @contextmanager
    def stage(self, name: str, look: str) -> Iterator[Callable[[str], None]]:
        """Time a stage and watch its memory; yields how to note its key figure."""
        figure: list[str] = [""]
        start = time.monotonic()
        with sampled_memory() as samples:
            yield lambda text: figure.__setitem__(0, text)
        self.add(name, time.monotonic() - start, peak(samples, start, time.monotonic()), figure[0], look)

    def add(self, name: str, seconds: float, peak: int, figure: str, look: str) -> None:
        """Add a stage that was timed elsewhere."""
        look = look.replace(f"{Path.cwd()}/", "")
        self.lines.append(Line(name, round(seconds, 1), peak // MB, figure, look))

    def show(self, console: Console, remark: str) -> None:
        """Print one screen."""
        table = Table(box=None, pad_edge=False)
        for name, width in WIDTHS.items():
            justify = "right" if name in ("s", "MB") else "left"
            table.add_column(name, no_wrap=True, overflow="ellipsis", width=width, justify=justify)  # type: ignore[arg-type]
        for line in self.lines:
            table.add_row(line.stage, f"{line.seconds:.1f}", str(line.peak_mb), line.figure, line.look)
        console.print(table)
        total, peak = sum(x.seconds for x in self.lines), max(x.peak_mb for x in self.lines)
        console.print(f"{total:.0f} s in all, at most {peak} MB of memory. {remark}")
        if self.figures.get("slate"):
            console.print(f"  a slate: {'; '.join(self.figures['slate'])}", highlight=False)
        for text in self.figures.get("verdict", []):
            console.print(f"  {text}", highlight=False)


def _data_version() -> str:
    """The watermark; empty where there is none. A run with another dataset, or ingest, changes it."""
    mark = Path("data/watermark.json")
    return mark.read_text() if mark.exists() else ""


@contextmanager
def sampled_memory() -> Iterator[list[tuple[float, int]]]:
    """While it lasts, note when (monotonic clock) this process and its descendants hold how many bytes."""
    samples: list[tuple[float, int]] = []
    ended = threading.Event()

    def watch() -> None:
        while not ended.is_set():
            samples.append((time.monotonic(), tree_memory()))
            ended.wait(SAMPLE_SECONDS)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield samples
    finally:
        ended.set()
        thread.join()
        samples.append((time.monotonic(), tree_memory()))


def peak(samples: list[tuple[float, int]], since: float, until: float) -> int:
    """Most bytes between two times, give or take one sample."""
    near = (size for at, size in samples if since - SAMPLE_SECONDS <= at <= until + SAMPLE_SECONDS)
    return max(near, default=0)


def tree_memory() -> int:
    """Bytes that this process and its descendants hold now; shared pages are shared out (PSS)."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total

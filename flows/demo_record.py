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
        fingerprint: of code, parameters and data; a record of another one is begun anew.
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
        """The record of a finished run with this fingerprint, or an empty one."""
        path = home / "demo.json"
        if path.exists():
            kept = json.loads(path.read_text())
            if kept["fingerprint"] == fingerprint:
                lines = [Line(**line) for line in kept["lines"]]
                return cls(path, fingerprint, True, lines, kept["figures"])
        return cls(path, fingerprint)

    def close(self) -> None:
        """Keep it: the run is complete."""
        self.complete = True
        content = {"fingerprint": self.fingerprint, "lines": [asdict(x) for x in self.lines]}
        self.path.write_text(json.dumps(content | {"figures": self.figures}, indent=1) + "\n")

    @contextmanager
    def stage(self, name: str, look: str) -> Iterator[Callable[[str], None]]:
        """Time a stage and watch its memory; yields how to note its key figure."""
        figure: list[str] = [""]
        start = time.monotonic()
        with _memory() as peak:
            yield lambda text: figure.__setitem__(0, text)
        self.add(name, time.monotonic() - start, peak[0], figure[0], look)

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


@contextmanager
def _memory() -> Iterator[list[int]]:
    """Peak of the resident memory of this process and all that descend from it, in bytes.

    Shared pages are counted once (proportional set size).
    """
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.7):
            peak[0] = max(peak[0], tree_memory())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        ended.set()
        thread.join()
        peak[0] = max(peak[0], tree_memory())


def tree_memory() -> int:
    """Bytes that this process and its descendants hold now."""
    own = psutil.Process()
    total = 0
    for process in [own, *own.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total

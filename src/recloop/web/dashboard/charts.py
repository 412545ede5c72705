"""Lines as SVG, of points; the templates draw what this computes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600.0, 120.0
DASH = 6.0  # what is drawn of a point that has no neighbour


@dataclass(frozen=True)
class Line:
    """One or several lines on one scale.

    Attributes:
        paths: an SVG path for each, within ``WIDTH`` by ``HEIGHT``.
        top: the value at the upper edge; at the lower one is ``bottom``.
        bottom: see ``top``.
        first: x at the left edge.
        last: x at the right edge.
    """

    paths: tuple[str, ...]
    top: float
    bottom: float
    first: float
    last: float


def lines(x: Sequence[float], *series: Sequence[float | None], zero: bool = True) -> Line | None:
    """Lines over the same x; None is a gap, and a point between gaps a dash.

    ``zero``: the scale begins at 0. None below two points.
    """
    known = [y for one in series for y in one if y is not None and math.isfinite(y)]
    if len(x) < 2 or not known:
        return None
    low, high = min(known), max(known)
    low = min(0.0, low) if zero else low
    span, length = (high - low) or 1.0, (x[-1] - x[0]) or 1.0

    def path(one: Sequence[float | None]) -> str:
        runs: list[list[tuple[float, float]]] = [[]]
        for at, y in zip(x, one, strict=True):
            if y is None or not math.isfinite(y):
                runs.append([])
            else:
                runs[-1].append(((at - x[0]) / length * WIDTH, HEIGHT - (y - low) / span * HEIGHT))
        return "".join(_drawn(run) for run in runs if run)

    return Line(tuple(path(one) for one in series), low + span, low, x[0], x[-1])


def _drawn(run: list[tuple[float, float]]) -> str:
    if len(run) == 1:
        ((left, down),) = run
        return f"M{min(max(left - DASH / 2, 0), WIDTH - DASH):.1f} {down:.1f}h{DASH:g}"
    return "M" + "L".join(f"{left:.1f} {down:.1f}" for left, down in run)

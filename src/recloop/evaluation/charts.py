"""The report's plots: one set of figures, as PNG for MLflow and DVC and as SVG in the page."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

LEARNED = "policy"
TITLES = {
    "user_model": "in the user model of held-out people",
    "truth": "in the market itself (no gate reads this)",
}
COLOURS = {LEARNED: "#0072b2", "random": "#999999", "most_popular": "#e69f00", "myopic": "#009e73"}
LOST = "#d55e00"
INK = "#010203"  # stands for the page's own colour of text, light or dark
PLAIN: dict[Any, Any] = {"text.parse_math": False}  # a dollar in a name is a dollar
STYLE: dict[Any, Any] = PLAIN | {
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.fonttype": "none",
    "svg.hashsalt": "recloop",
    "font.size": 9,
}


def places(figures: dict[str, Any]) -> list[str]:
    """Where values were measured."""
    return [where for where in TITLES if where in figures]


def values(figures: dict[str, Any], where: Sequence[str]) -> Figure:
    """What each policy is worth, best on top, side by side per place."""
    figure = Figure(figsize=(5.5 * len(where), 3.4), layout="constrained")
    for axis, place in zip(figure.subplots(1, len(where), squeeze=False)[0], where, strict=True):
        rows = sorted(figures[place].items(), key=lambda row: row[1]["value"])
        means = np.array([row["value"] for _, row in rows])
        errors = np.abs(np.array([[row["low"], row["high"]] for _, row in rows]).T - means)
        names = [label(name, figures["algorithm"]) for name, _ in rows]
        axis.barh(names, means, xerr=errors, color=[COLOURS[name] for name, _ in rows], ecolor="#777777")
        for y, (value, error) in enumerate(zip(means, errors[1], strict=True)):
            axis.text(value + error, y, f"  {value:.2f}", va="center")
        axis.margins(x=0.15)
        axis.set_xlabel("mean return of a session, 95 % interval")
        axis.set_title(TITLES[place], fontsize=10)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def differences(rows: Sequence[dict[str, Any]], rival: str) -> Figure:
    """How each slice of people fares, policy minus rival."""
    shown = [row for row in rows if row["low"] is not None][::-1]
    figure = Figure(figsize=(5.5, 1 + 0.24 * len(shown)), layout="constrained")
    axis = figure.subplots()
    at = np.arange(len(shown))
    middle = np.array([row["difference"] for row in shown])
    error = np.array([[row["difference"] - row["low"], row["high"] - row["difference"]] for row in shown]).T
    colours = [LOST if row["loses"] else COLOURS[LEARNED] for row in shown]
    if len(shown):
        axis.errorbar(middle, at, xerr=error, fmt="none", ecolor=colours)  # type: ignore[arg-type]
        axis.scatter(middle, at, c=colours, s=14, zorder=3)
    names = [f"{row['by']}: {row['value']} ({row['people']:,})" for row in shown]
    axis.set_yticks(at, names)
    axis.margins(y=0.02)
    axis.axvline(0, color="#999999", linewidth=1)
    axis.set_xlabel(f"mean return, policy minus {rival.replace('_', ' ')}")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def curve(points: Sequence[tuple[float, float]]) -> Figure:
    """Mean return over env steps."""
    figure = Figure(figsize=(5.5, 3), layout="constrained")
    axis = figure.subplots()
    steps, means = zip(*points, strict=True) if points else ((), ())
    axis.plot(steps, means, marker=".", color=COLOURS[LEARNED])
    axis.set(xlabel="env steps or rows", ylabel="mean return of a session\n(greedy, in training)")
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def save_values(figures: dict[str, Any], path: Path) -> None:
    """``values`` as PNG; equal figures, equal bytes."""
    with mpl.rc_context(PLAIN):
        figure = values(figures, places(figures))
        figure.suptitle(f"What a policy is worth ({figures['people']} people)")
        figure.savefig(path, dpi=130, metadata={"Software": None})


def label(name: str, algorithm: str) -> str:
    """A policy's name for people."""
    return f"policy ({algorithm})" if name == LEARNED else name.replace("_", " ")


def as_svg(draw: Any, *arguments: Any) -> str:
    """An ``<svg>`` element that takes the page's colour of text; equal figures, equal text."""
    with mpl.rc_context(STYLE):
        figure, out = draw(*arguments), io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = out.getvalue()
    drawn = drawn[drawn.index("<svg") :].replace(INK, "currentColor")
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawn))

"""The last training, as its stage reports it: files beside the gateway, or nothing."""

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recloop.web.dashboard.charts import Line, lines

POINTS = 400  # of a curve that are drawn


@dataclass(frozen=True)
class Training:
    """The curve of the greedy and of the exploring policy's return over env steps, and the figures."""

    curve: Line | None
    steps: int
    figures: dict[str, Any]


def last_training(reports: Path) -> Training | None:
    """Of the reports' folder; None where there is none."""
    try:
        with (reports / "learning_curve.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if _number(row.get("env_steps")) is not None]
        figures = json.loads((reports / "training.json").read_text())
    except (OSError, ValueError):
        return None
    rows = rows[:: max(1, len(rows) // POINTS)] + (rows[-1:] if len(rows) > POINTS else [])
    x = [float(row["env_steps"]) for row in rows]
    series = [
        [_number(row.get(name)) for row in rows]
        for name in ("mean_return", "exploring_return")
        if rows and name in rows[0]
    ]
    return Training(lines(x, *series), int(x[-1]) if x else 0, figures)


def _number(text: str | None) -> float | None:
    try:
        found = float(text or "")
    except ValueError:
        return None
    return found if math.isfinite(found) else None

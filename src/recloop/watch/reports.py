"""What the last training and the fit of the user model reported, from the files of the project's folder."""

import json
from pathlib import Path
from typing import Any

from recloop.watch.expressions import Values

TRAINING, USER_MODEL = Path("reports/training.json"), Path("reports/user_model.json")
FIGURES = {  # of training.json, each with its unit's size
    "recloop_training_return": ("final_return", 1.0),
    "recloop_training_return_best": ("best_return", 1.0),
    "recloop_training_env_steps": ("env_steps", 1.0),
    "recloop_training_duration_seconds": ("seconds", 1.0),
    "recloop_training_memory_bytes": ("peak_memory_mb", 1e6),
}
CALIBRATION = "recloop_user_model_calibration_error"
GAUGES = {
    "recloop_training_return": "Mean return of a session at the end of the last training",
    "recloop_training_return_best": "The best of its evaluations",
    "recloop_training_env_steps": "Steps that it took in the user model",
    "recloop_training_duration_seconds": "Time that it took",
    "recloop_training_memory_bytes": "Memory that it took at most",
    CALIBRATION: "Expected calibration error on people who were not fitted on, in ten bins",
}


def reported() -> dict[str, Values]:
    """By name and labels; nothing of a file that is not there, or is no report."""
    found: dict[str, Values] = {name: {} for name in GAUGES}
    training = _read(TRAINING)
    for name, (field, size) in FIGURES.items():
        if isinstance(x := training.get(field), int | float):
            found[name][(("algorithm", str(training.get("algorithm", ""))),)] = size * x
    for people, figures in _read(USER_MODEL).items():
        for field, x in figures.items() if isinstance(figures, dict) else ():
            if field.endswith("_calibration_error"):
                event = field.removesuffix("_calibration_error")
                found[CALIBRATION][(("event", event), ("people", people))] = float(x)
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}

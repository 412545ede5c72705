"""Estimates held against the truth: a bandit whose rates are known, and the Open Bandit logs."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from recloop.evaluation.bandit import OnePolicyError, compare_policies
from recloop.intake.open_bandit import read_open_bandit

DATASET = Path(__file__).parents[3] / "shared" / "datasets" / "open-bandit-small"


def two_logs(rows: int, seed: int) -> SimpleNamespace:
    """Four items with click rates .1 to .4; bts shows the better ones more, differently at each position."""
    rng = np.random.default_rng(seed)
    rates, parts = np.array([0.1, 0.2, 0.3, 0.4]), []
    tables = {"random": np.full((2, 4), 0.25), "bts": np.array([[0.1, 0.1, 0.2, 0.6], [0.1, 0.2, 0.5, 0.2]])}
    for name, table in tables.items():
        position = rng.integers(0, 2, rows)
        item = (rng.random(rows)[:, None] > table[position].cumsum(1)).sum(1)
        parts.append(
            pl.DataFrame(
                {
                    "policy": [name] * rows,
                    "item": [f"i{i}" for i in item],
                    "position": position + 1,
                    "click": (rng.random(rows) < rates[item]).astype(int),
                    "propensity_score": table[position, item],
                }
            )
        )
    return SimpleNamespace(shown=pl.concat(parts))


def test_estimates_reach_a_truth_that_the_logging_policy_misses() -> None:
    rows = {(row["to"], row["estimator"]): row for row in compare_policies(two_logs(8_000, 0))}  # type: ignore[arg-type]
    for target, truth in (("bts", (0.33 + 0.28) / 2), ("random", 0.25)):
        assert rows[target, "ips"]["truth"] == pytest.approx(truth, abs=0.02)
        for name in ("ips", "snips"):
            assert rows[target, name]["estimate"] == pytest.approx(truth, abs=0.03)
            error = (rows[target, name]["high"] - rows[target, name]["low"]) / 3.92
            assert abs(rows[target, name]["estimate"] - truth) < 4 * error < 0.05
            assert rows[target, name]["error"] < rows[target, "log"]["error"] / 2
            assert rows[target, name]["error"] <= rows[target, name]["error_high"]


def test_too_little_is_refused_with_its_reason() -> None:
    rows = compare_policies(two_logs(60, 1))  # type: ignore[arg-type]
    refused = [row for row in rows if "why" in row]
    assert refused
    assert all("estimate" not in row for row in refused)


def test_one_policy_alone_is_refused() -> None:
    shown = two_logs(50, 0).shown.filter(pl.col("policy") == "random")
    with pytest.raises(OnePolicyError, match="no log of bts"):
        compare_policies(SimpleNamespace(shown=shown))  # type: ignore[arg-type]


def test_open_bandit_intervals_meet_the_truth() -> None:
    """46 and 69 clicks: intervals, never a ranking of estimates."""
    if not DATASET.exists():
        pytest.skip(f"the Open Bandit dataset is not at {DATASET}")
    rows = compare_policies(read_open_bandit(DATASET))
    truth = {row["to"]: row["truth"] for row in rows}
    assert truth == {"bts": pytest.approx(0.0069), "random": pytest.approx(0.0046)}
    for row in rows:
        if row["estimator"] != "log":
            assert row["low"] <= row["truth_high"]
            assert row["high"] >= row["truth_low"]
            assert row["effective_sample"] > 200

"""Every algorithm in the same markets: what its policy is worth, how long it took, how much it saw.

Each seed is another market with its own log. All learn from that log alone, in the same user model or from
the log itself, with params.yaml as it is shipped but for ``SETTINGS``, which were chosen on other seeds.
A value is the mean reward of a session in the ground truth, with slates drawn as in serving; the interval is
Student's over seeds. Writes a table, a plot and the rows:

    python -m benchmarks.agents [--seeds 5] [--only dqn,ppo] [--out reports/agents]
"""

import argparse
import csv
import json
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.worlds import FRESH, far_sighted, prepare
from recloop.agents import train
from recloop.agents.algorithms import ALGORITHMS
from recloop.evaluation.translate import sampler_for
from recloop.market.threads import single_thread
from recloop.policy import load
from recloop.settings import Params, load_params

SETTINGS: dict[str, dict[str, Any]] = {}


def measure(params: Params, names: list[str]) -> Iterator[dict[str, Any]]:
    """One row per algorithm and per yardstick in the market of the parameters' seed."""
    with tempfile.TemporaryDirectory() as folder, single_thread():
        home = Path(folder)
        market, judge = prepare(params, home)
        for name, sampler in judge.baselines().items():
            yield _row(params, name, judge.value(sampler, market).reward.mean())
        yield _row(params, "far_oracle", far_sighted(market, params))
        for name in names:
            chosen = with_algorithm(params, name)
            began = time.perf_counter()
            figures = train(
                chosen, home / "features", home / "user_model" / "train", home / name,
                home / f"{name}-reports", home / "checkpoints",
            )  # fmt: skip
            seconds = time.perf_counter() - began
            sampler = sampler_for(load(home / name), judge.spec)
            yield _row(
                params, name, judge.value(sampler, market).reward.mean(), seconds, figures["env_steps"],
                judge.value(sampler).reward.mean(),
            )  # fmt: skip


def _row(
    params: Params, name: str, value: Any, seconds: Any = 0.0, steps: Any = 0, unseen: Any = np.nan
) -> dict:
    return {
        "seed": params.seed, "name": name, "value": float(value), "unseen": float(unseen),
        "seconds": float(seconds), "env_steps": int(steps),
    }  # fmt: skip


def with_algorithm(params: Params, name: str) -> Params:
    """The parameters with this algorithm, and what suits it."""
    values = params.model_dump()
    values["agent"]["algorithm"] = name
    for key, change in SETTINGS.get(name, {}).items():
        section = values["agent"][key]
        values["agent"][key] = section | change if isinstance(section, dict) else change
    return Params.model_validate(values)


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and 95 % interval over seeds, best first."""
    found = []
    for name in dict.fromkeys(row["name"] for row in rows):
        mine = [row for row in rows if row["name"] == name]
        values = np.array([row["value"] for row in mine])
        half = 0.0
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
        row = {
            "name": name,
            "value": values.mean(),
            "low": values.mean() - half,
            "high": values.mean() + half,
        }
        row |= {key: float(np.mean([one[key] for one in mine])) for key in ("unseen", "seconds", "env_steps")}
        found.append(row)
    return sorted(found, key=lambda row: -row["value"])


def plot(table: list[dict[str, Any]], path: Path) -> None:
    """Values with their intervals."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 0.3 * len(table) + 1))
    for place, row in enumerate(reversed(table)):
        colour = "tab:blue" if row["name"] in ALGORITHMS else "tab:grey"
        axes.errorbar(row["value"], place, xerr=row["high"] - row["value"], fmt="o", color=colour, capsize=3)
    axes.set_yticks(range(len(table)), [row["name"] for row in reversed(table)])
    axes.set_xlabel("mean reward of a session in the ground truth, 95 % interval over markets")
    axes.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, help="first seed; fresh ones by default")
    parser.add_argument("--only", help="algorithms, with commas between")
    parser.add_argument("--out", type=Path, default=Path("reports/agents"))
    asked = parser.parse_args()
    params = load_params()
    names = asked.only.split(",") if asked.only else list(ALGORITHMS)
    first = params.seed + FRESH if asked.first is None else asked.first
    asked.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed in tqdm(range(first, first + asked.seeds), desc="markets", mininterval=1):
        rows += measure(params.model_copy(update={"seed": seed}), names)
        (asked.out / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")
    table = summary(rows)
    with (asked.out / "agents.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    plot(table, asked.out / "agents.png")
    print(f"{'algorithm':<17}{'value':>7}  {'95 %':<15}{'unseen':>8}{'seconds':>9}{'env steps':>11}")
    for row in table:
        bounds = f"{row['low']:.1f} to {row['high']:.1f}"
        print(
            f"{row['name']:<17}{row['value']:>7.1f}  {bounds:<15}{row['unseen']:>8.1f}{row['seconds']:>9.1f}"
            f"{row['env_steps']:>11,.0f}"
        )


if __name__ == "__main__":
    main()

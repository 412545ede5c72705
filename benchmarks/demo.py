"""What the loop's policy is worth in the market that its data came from, beside what it must beat.

Each seed is another market, another log and another training; nothing of the market but its log is
learnt from. A value is the mean reward of a session; the interval is Student's over seeds, of the
ratio's logarithm. The two oracles see every hidden number: one is greedy for clicks, one far-sighted
(the best foresight of a few, so no upper bound).
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from scipy import stats
from tqdm import tqdm

from benchmarks.race import Row, main
from benchmarks.worlds import FRESH, far_sighted, oracle_value, trained
from recloop.market.threads import single_thread
from recloop.settings import Params, load_params

PEERS = {
    "random": "random",
    "most_popular": "most popular",
    "myopic": "myopic click model",
    "greedy_oracle": "oracle, greedy for clicks",
    "far_oracle": "oracle, far-sighted",
}


def cases(seeds: int) -> Iterator[Row]:
    """One row per peer, over so many seeds."""
    params = load_params()
    values: dict[str, list[float]] = {}
    first = params.seed + FRESH
    for seed in tqdm(range(first, first + seeds), desc="seeds", mininterval=1):
        for name, value in values_of(params.model_copy(update={"seed": seed})).items():
            values.setdefault(name, []).append(value)
    ours = np.array(values["policy"])
    for name, title in PEERS.items():
        theirs = np.array(values[name])
        ratio, low, high = mean_ratio(ours, theirs)
        case = f"value of a session, {seeds} seeds"
        yield Row(
            case, "reward", ours.mean(), title, theirs.mean(), ratio, low, high, better="higher", limit=None
        )


def mean_ratio(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float]:
    """Geometric mean of the ratios, and its 95 % interval over seeds."""
    logs = np.log(ours / theirs)
    half = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / len(logs) ** 0.5
    ratio, low, high = np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    return float(ratio), float(low), float(high)


def values_of(params: Params) -> dict[str, float]:
    """Mean return of a session in the ground truth, per policy, after one round of the offline loop."""
    with tempfile.TemporaryDirectory() as folder, single_thread():
        market, judge, policy = trained(params, Path(folder))
        samplers = {"policy": policy, **judge.baselines()}
        values = {name: float(judge.value(s, market).reward.mean()) for name, s in samplers.items()}
        values["greedy_oracle"] = oracle_value(market, 0.0, params)
        values["far_oracle"] = far_sighted(market, params)
    return values


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5, quick=3)

"""What serving without a profile and a past is worth: a session in the market, beside the personalised mode.

Each seed is another market with its own log and a policy trained on it, with params.yaml as it is shipped.
The policy then serves the same people with the same luck twice: as who they are, and as strangers, of whom it
knows the moment and the device only (``evaluation.strangers``). Peers are the same policy personalised, the
most popular items and random ones; ratios are of mean rewards of a session in the ground truth, with their
interval over the markets.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from benchmarks.race import Row, main, median_ratio
from benchmarks.worlds import FRESH, trained
from recloop.evaluation.strangers import to_strangers
from recloop.market.threads import single_thread
from recloop.settings import Params, load_params

MARKETS, QUICK_MARKETS = 5, 2


def values(params: Params) -> dict[str, float]:
    """Mean reward of a session by who serves, in the market of the parameters' seed."""
    with tempfile.TemporaryDirectory() as folder, single_thread():
        market, judge, policy = trained(params, Path(folder))
        samplers = judge.baselines() | {"personalised": policy, "strangers": to_strangers(policy, judge.spec)}
        return {name: float(judge.value(one, market).reward.mean()) for name, one in samplers.items()}


def cases(repeats: int) -> Iterator[Row]:
    """So many markets."""
    params = load_params()
    seeds = range(params.seed + FRESH, params.seed + FRESH + repeats)
    found = [values(params.model_copy(update={"seed": seed})) for seed in tqdm(seeds, desc="markets")]
    ours = np.array([row["strangers"] for row in found])
    for peer, name in (
        ("the same policy, personalised", "personalised"),
        ("most popular items", "most_popular"),
        ("random items", "random"),
    ):
        theirs = np.array([row[name] for row in found])
        yield Row(
            "a session without profile and past", "reward", float(ours.mean()), peer, float(theirs.mean()),
            *median_ratio(ours / theirs), better="higher", limit=None,
        )  # fmt: skip


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=MARKETS, quick=QUICK_MARKETS)

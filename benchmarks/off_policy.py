"""A self-normalised off-policy estimate with its bootstrap interval, beside SciPy's bootstrap."""

from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from scipy import stats

from benchmarks.race import SEED, Row, main, race
from recloop.evaluation import Log, estimate

RESAMPLES = 1000


def cases(repeats: int) -> Iterator[Row]:
    """Logs of growing size; the two intervals must agree before anything is timed."""
    for rows in (2_000, 20_000, 200_000):
        rng = np.random.default_rng(SEED)
        weight = rng.lognormal(-0.5, 1, rows)
        reward = (rng.random(rows) < 0.1).astype(float)
        log = Log(
            weight[:, None], reward[:, None], np.ones((rows, 1), bool), np.arange(rows),
            np.zeros((rows, 1)), np.zeros(rows),
        )  # fmt: skip

        def ours(log: Log = log) -> tuple[float, float]:
            found = estimate(log, "snips", "slate", 1, RESAMPLES, SEED)
            assert found.low is not None
            assert found.high is not None
            return found.low, found.high

        def theirs(weight: np.ndarray = weight, reward: np.ndarray = reward) -> tuple[float, float]:
            found = stats.bootstrap(
                (weight * reward, weight), _ratio, paired=True, n_resamples=RESAMPLES,
                batch=max(1, 2_000_000 // len(weight)), method="percentile", rng=SEED,
            )  # fmt: skip
            return found.confidence_interval

        (low, high), other = ours(), theirs()
        if max(abs(low - other[0]), abs(high - other[1])) > 0.2 * (high - low):
            raise SystemExit(f"the two disagree: {(low, high)} and {other}")
        peer = f"SciPy {version('scipy')}"
        yield race(f"{rows:,} requests, {RESAMPLES:,} resamples", ours, peer, theirs, rows, "rows/s", repeats)


def _ratio(gained: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    return gained.sum(axis) / weight.sum(axis)


if __name__ == "__main__":
    main(cases, __doc__)

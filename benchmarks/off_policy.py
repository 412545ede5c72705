"""Off-policy estimates with intervals, beside SciPy and the Open Bandit Pipeline: speed, and error.

The Open Bandit Pipeline (``make peers``) gets the same arrays; figures must agree before anything is timed.
The last rows estimate Thompson sampling's click rate from the uniformly random log of the Open Bandit
dataset, and compare with its own log (relative estimation error; the interval resamples both logs).
"""

import csv
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np
from scipy import stats

from benchmarks.race import SEED, Row, main, race
from recloop.evaluation import Log, estimate
from recloop.evaluation.off_policy import bootstrap, choose
from recloop.evaluation.off_policy.estimate import weighed
from recloop.evaluation.off_policy.estimators import Weighed, dr, dr_optimistic, ips, sndr, snips, switch_dr
from recloop.evaluation.off_policy.intervals import by_person

RESAMPLES = 1000
DATASET = Path(__file__).parents[2] / "shared" / "datasets" / "open-bandit-small"
ITEMS, PLACES = 34, 3
SHRINKAGES = (1.0, 10.0, 100.0, 1000.0, 10_000.0)


def cases(repeats: int) -> Iterator[Row]:
    """Intervals on logs of growing size, then errors on a public log."""
    yield from beside_scipy(repeats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            import obp.ope as peer
        except ImportError as error:
            print(f"without the Open Bandit Pipeline ({error}): make peers")
            return
        yield from beside_obp(peer, repeats)
        if DATASET.exists():
            yield from errors(peer)
        else:
            print(f"without the Open Bandit dataset: it is not at {DATASET}")


def beside_scipy(repeats: int) -> Iterator[Row]:
    """The percentile intervals of both must agree; ours is timed as it is used, checks included."""
    for rows in (2_000, 20_000, 200_000):
        rng = np.random.default_rng(SEED)
        weight = rng.lognormal(-0.5, 1, rows)
        reward = (rng.random(rows) < 0.1).astype(float)
        log = Log.of(weight[:, None], reward[:, None])

        def theirs(weight: np.ndarray = weight, reward: np.ndarray = reward) -> tuple[float, float]:
            found = stats.bootstrap(
                (weight * reward, weight), _ratio, paired=True, n_resamples=RESAMPLES,
                batch=max(1, 2_000_000 // len(weight)), method="percentile", rng=SEED,
            )  # fmt: skip
            return found.confidence_interval

        values = by_person(snips(weighed(log, "slate"))[:, None], log.person)
        (low,), (high,) = bootstrap(values, RESAMPLES, SEED, "percentile")
        other = theirs()
        if max(abs(low - other[0]), abs(high - other[1])) > 0.2 * (high - low):
            raise SystemExit(f"the two disagree: {(low, high)} and {other}")
        yield race(
            f"{rows:,} requests, {RESAMPLES:,} resamples", partial(_interval, log, "snips"),
            f"SciPy {version('scipy')}", theirs, rows, "rows/s", repeats,
        )  # fmt: skip


def beside_obp(peer: ModuleType, repeats: int) -> Iterator[Row]:
    """One position per request, and slates of 10."""
    rng, rows = np.random.default_rng(SEED), 100_000
    chance = rng.uniform(0.2, 0.9, rows)
    target = chance * rng.uniform(0.9, 1.1, rows)
    reward = (rng.random(rows) < 0.1).astype(float)
    bandit = {
        "reward": reward, "action": np.zeros(rows, np.int64), "pscore": chance,
        "action_dist": np.stack([target, 1 - target], 1)[:, :, None], "position": np.zeros(rows, np.int64),
    }  # fmt: skip
    estimator = peer.SelfNormalizedInverseProbabilityWeighting()
    log = Log.of((target / chance)[:, None], reward[:, None])
    _agree(estimate(log, "snips", "slate", 1, 10, SEED).value, estimator.estimate_policy_value(**bandit))
    yield race(
        f"{rows:,} requests, {RESAMPLES:,} resamples", partial(_interval, log, "snips"),
        f"obp {version('obp')}", partial(
            estimator.estimate_interval, **bandit, n_bootstrap_samples=RESAMPLES, random_state=SEED
        ), rows, "rows/s", repeats,
    )  # fmt: skip
    for rows in (2_000, 100_000):
        chance = rng.uniform(0.3, 0.9, (rows, 10))
        ratio = rng.uniform(0.9, 1.1, (rows, 10))
        gained = (rng.random((rows, 10)) < 0.1).astype(float)
        slates = {
            "slate_id": np.repeat(np.arange(rows), 10), "reward": gained.ravel(),
            "position": np.tile(np.arange(10), rows), "pscore_cascade": chance.cumprod(1).ravel(),
            "evaluation_policy_pscore_cascade": (chance * ratio).cumprod(1).ravel(),
        }  # fmt: skip
        several = peer.SelfNormalizedSlateRewardInteractionIPS(len_list=10)
        log = Log.of(ratio, gained)
        _agree(estimate(log, "snips", "prefix", 1, 10, SEED).value, several.estimate_policy_value(**slates))
        case = f"{rows:,} slates of 10, {RESAMPLES:,} resamples"
        timed = partial(_interval, log, "snips", "prefix")
        if rows > 2_000:  # its loop over slates grows with their square: hours
            theirs: Callable[[], object] = partial(_ten_ratios, log.weights("prefix"), gained)
            yield race(case, timed, f"SciPy {version('scipy')}", theirs, rows, "slates/s", repeats)
        else:
            given = {**slates, "n_bootstrap_samples": RESAMPLES, "random_state": SEED}
            theirs = partial(several.estimate_interval, **given)
            yield race(case, timed, f"obp {version('obp')}", theirs, rows, "slates/s", repeats)


def _interval(log: Log, method: str, weighting: str = "slate") -> tuple[float, float]:
    found = estimate(log, method, weighting, 1, RESAMPLES, SEED)  # type: ignore[arg-type]
    assert found.low is not None, found.why
    assert found.high is not None
    return found.low, found.high


def _ten_ratios(weight: np.ndarray, reward: np.ndarray) -> object:
    def statistic(*columns: np.ndarray, axis: int) -> np.ndarray:
        half = len(columns) // 2
        return sum(g.sum(axis) / w.sum(axis) for g, w in zip(columns[:half], columns[half:], strict=True))

    columns = (*(weight * reward).T, *weight.T)
    return stats.bootstrap(
        columns, statistic, paired=True, n_resamples=RESAMPLES, batch=10, method="percentile", rng=SEED
    )


def _ratio(gained: np.ndarray, weight: np.ndarray, axis: int) -> np.ndarray:
    return gained.sum(axis) / weight.sum(axis)


def _agree(ours: float | None, theirs: float) -> None:
    if ours is None or abs(ours - theirs) > 1e-6:
        raise SystemExit(f"the two disagree: {ours} and {theirs}")


def errors(peer: ModuleType) -> Iterator[Row]:
    """Estimators that both have, then what each chooses; Thompson sampling is the peer's simulation."""
    from obp.policy import BernoulliTS

    policy = BernoulliTS(
        n_actions=ITEMS, len_list=PLACES, is_zozotown_prior=True, campaign="men", random_state=SEED
    )
    target = policy.compute_batch_action_dist(n_rounds=1, n_sim=100_000)[0]
    logged, truth = _read("random"), _read("bts")["click"]
    pairs: dict[str, tuple[Callable[[Weighed], np.ndarray], object]] = {
        "ips": (ips, peer.InverseProbabilityWeighting()),
        "snips": (snips, peer.SelfNormalizedInverseProbabilityWeighting()),
        "dr": (dr, peer.DoublyRobust()),
        "sndr": (sndr, peer.SelfNormalizedDoublyRobust()),
        "switch_dr 5": (partial(switch_dr, threshold=5.0), peer.SwitchDoublyRobust(lambda_=5.0)),
        "dr_optimistic 10": (
            partial(dr_optimistic, shrinkage=10.0), peer.DoublyRobustWithShrinkage(lambda_=10.0)
        ),
        "chosen": (_chosen, peer.DoublyRobustWithShrinkageTuning(lambdas=list(SHRINKAGES))),
    }  # fmt: skip
    for name, (ours, theirs) in pairs.items():
        rng = np.random.default_rng(SEED)
        drawn = [_both(ours, theirs, logged, target, truth)]
        for _ in range(60):
            again = rng.integers(len(truth), size=len(truth))
            resampled = {key: x[again] for key, x in logged.items()}
            drawn.append(_both(ours, theirs, resampled, target, rng.choice(truth, len(truth))))
        mine, other = np.array(drawn).T
        low, high = np.quantile(other[1:] / mine[1:], [0.025, 0.975])
        yield Row(
            f"Open Bandit, random to Thompson: {name}", "relative error", mine[0], f"obp {version('obp')}",
            other[0], other[0] / mine[0], float(low), float(high), "lower", None,
        )  # fmt: skip


def _chosen(x: Weighed) -> np.ndarray:
    log = Log.of(x.weight, x.reward, predicted=x.predicted, direct=x.direct)
    found = choose(log, 200, 200, SEED)
    return np.full(1, found.value)


def _both(
    ours: Callable, theirs: object, logged: dict[str, np.ndarray], target: np.ndarray, truth: np.ndarray
) -> tuple[float, float]:
    """Both relative errors."""
    item, place, click = logged["item"], logged["position"], logged["click"]
    model = _click_rates(logged)
    expected = (target[None] * model[:, :, None]).sum(1)[np.arange(len(item)), place]
    log = Log.of(
        (target[item, place] / logged["propensity"])[:, None], click[:, None],
        predicted=model[np.arange(len(item)), item][:, None], direct=expected,
    )  # fmt: skip
    mine = ours(weighed(log, "position")).mean()
    other = theirs.estimate_policy_value(  # type: ignore[attr-defined]
        reward=click, action=item, position=place, pscore=logged["propensity"],
        action_dist=np.broadcast_to(target, (len(item), *target.shape)),
        estimated_rewards_by_reg_model=np.repeat(model[:, :, None], PLACES, 2),
    )  # fmt: skip
    if ours is not _chosen:
        _agree(mine, other)
    return abs(mine / truth.mean() - 1), abs(other / truth.mean() - 1)


def _click_rates(logged: dict[str, np.ndarray]) -> np.ndarray:
    """float64 (R, N): smoothed click rates per item, from the other half of the rows."""
    half = np.arange(len(logged["click"])) % 2
    rates = []
    for side in (0, 1):
        item, click = (logged[name][half != side] for name in ("item", "click"))
        clicks, shown = np.bincount(item, click, ITEMS), np.bincount(item, minlength=ITEMS)
        rates.append((clicks + 100 * click.mean()) / (shown + 100))
    return np.stack(rates)[half]


def _read(policy: str) -> dict[str, np.ndarray]:
    with (DATASET / policy / "men" / "men.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {
        "item": np.array([int(row["item_id"]) for row in rows]),
        "position": np.array([int(row["position"]) for row in rows]) - 1,
        "click": np.array([float(row["click"]) for row in rows]),
        "propensity": np.array([float(row["propensity_score"]) for row in rows]),
    }


if __name__ == "__main__":
    main(cases, __doc__)

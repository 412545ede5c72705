"""Whether off-policy figures can be trusted: coverage, false alarms, and what choosing an estimator costs.

Bandits of 20 items with known values. Peers: the percentile bootstrap, the plain t test, and always the
least biased estimator. Bounds of a ratio are a bootstrap's over replications.
"""

from collections.abc import Iterator

import numpy as np
from scipy import stats

from benchmarks.race import Row, main
from recloop.evaluation.off_policy import ESTIMATORS, Log, bootstrap, diagnose
from recloop.evaluation.off_policy.choice import BY_MODEL, BY_WEIGHTS, slope
from recloop.evaluation.off_policy.estimate import weighed
from recloop.evaluation.off_policy.intervals import by_person

ITEMS = 20
UNBIASED = ("ips", "snips", "dr", "sndr")


def cases(repeats: int) -> Iterator[Row]:
    """``repeats`` hundreds of logs per case."""
    yield from coverage(100 * repeats)
    yield from alarms(600 * repeats)
    yield from choices(12 * repeats)


def coverage(times: int) -> Iterator[Row]:
    """Share of 95 % intervals that hold the truth; people differ in how much they like anything."""
    rng = np.random.default_rng(5)
    means, logits = rng.beta(1, 6, ITEMS), rng.normal(0, 1, ITEMS)
    logged, crowd = softmax(logits), np.random.default_rng(1).normal(0, 0.5, 200_000)
    likes = np.array([np.clip(m * np.exp(crowd - 0.125), 0, 1).mean() for m in means])
    for people, sharp in ((100, 1.0), (400, 1.0), (200, 2.0), (1000, 2.0)):
        target, model = softmax(-0.3 * logits + 5 * sharp * means), 0.8 * means + 0.02
        truth, held = target @ likes, {"studentised": [], "percentile": []}  # type: ignore[var-annotated]
        for time in range(times):
            rng = np.random.default_rng([3, time])
            person = np.repeat(np.arange(people), rng.poisson(4, people) + 1)
            item = rng.choice(ITEMS, len(person), p=logged)
            chance = means[item] * np.exp(rng.normal(0, 0.5, people)[person] - 0.125)
            log = Log.of(
                (target / logged)[item, None], (rng.random(len(item)) < chance)[:, None].astype(float),
                person=person, predicted=model[item, None], direct=np.full(len(item), target @ model),
            )  # fmt: skip
            view = weighed(log, "position")
            values = by_person(np.stack([ESTIMATORS[name](view) for name in UNBIASED], 1), person)
            for kind, found in held.items():
                low, high = bootstrap(values, 1000, time, kind)  # type: ignore[arg-type]
                found.append((low <= truth) & (truth <= high))
        for i, name in enumerate(UNBIASED):
            mine, other = (np.array(held[kind])[:, i].astype(float) for kind in held)
            case = f"{people} people, sharpness {sharp:g}: {name}"
            yield row(case, "coverage", mine, "percentile", other, "higher")


def alarms(times: int) -> Iterator[Row]:
    """Share of sound samples whose mean weight looks wrong at p < 0.0001."""
    rng, items = np.random.default_rng(0), 200
    for spread in (0.5, 1.0, 1.5, 2.0):
        for rows in (200, 1000, 4000):
            logged = 0.9 * softmax(rng.normal(0, 1, items)) + 0.1 / items
            weight = (0.95 * softmax(rng.normal(0, spread, items)) + 0.05 / items) / logged
            found = []
            for _ in range(times):
                sample = weight[rng.choice(items, rows, p=logged)]
                ours = diagnose(Log.of(sample[:, None], np.zeros((rows, 1)), ts=np.zeros(rows)))
                found.append((ours.mean_weight_p < 1e-4, stats.ttest_1samp(sample, 1).pvalue < 1e-4))
            mine, other = np.array(found, float).T
            case = f"{rows} rows, weights up to {weight.max():.0f}"
            yield row(case, "false alarms", mine, "t test", other, "lower", 0.5 / times)


def choices(times: int) -> Iterator[Row]:
    """Squared error by the squared value, over 12 bandits; the peer is the chain's first candidate."""
    for quality in ("good", "fair", "useless", "no"):
        rng0, errors = np.random.default_rng(11), []
        for world in range(12):
            means = rng0.beta(1, 6, ITEMS)
            logged, target = (
                (1 - floor) * softmax(rng0.normal(0, spread, ITEMS)) + floor / ITEMS
                for floor, spread in ((0.1, 1.0), (0.05, 1.3))
            )
            model = {
                "good": means + rng0.normal(0, 0.01, ITEMS),
                "fair": np.clip(0.7 * means + rng0.normal(0, 0.05, ITEMS), 0, 1),
                "useless": np.full(ITEMS, 0.05),
            }.get(quality)
            for time in range(times):
                rng = np.random.default_rng([world, time])
                item = rng.choice(ITEMS, 500, p=logged)
                reward = (rng.random(500) < means[item])[:, None].astype(float)
                given = {} if model is None else {
                    "predicted": model[item, None], "direct": np.full(500, target @ model)
                }  # fmt: skip
                view = weighed(Log.of((target / logged)[item, None], reward, **given), "position")
                chain = (BY_WEIGHTS if model is None else BY_MODEL)[1:]
                rows = np.stack([candidate.estimator(view) for candidate in chain], 1)
                values = rows.mean(0)
                at = slope(values.tolist(), (rows.std(0, ddof=1) / 500**0.5).tolist())
                errors.append(np.square(values[[at, 0]] / (target @ means) - 1))
        mine, other = np.array(errors).T
        yield row(f"choice, {quality} model, 500 rows", "squared error", mine, chain[0].name, other, "lower")


def row(
    case: str, unit: str, mine: np.ndarray, peer: str, other: np.ndarray, better: str, least: float = 0.0
) -> Row:
    """Means over replications; ``least`` is added to both before they are divided."""
    rng = np.random.default_rng(0)
    again = rng.integers(len(mine), size=(500, len(mine)))
    turn = 1 if better == "higher" else -1
    ratios = np.array([(mine[a].mean() + least) / (other[a].mean() + least) for a in again]) ** turn
    low, high = np.quantile(ratios, [0.025, 0.975])
    ours, theirs = float(mine.mean()), float(other.mean())
    return Row(
        case, unit, ours, peer, theirs, ((ours + least) / (theirs + least)) ** turn, low, high, better, None
    )  # type: ignore[arg-type]


def softmax(logits: np.ndarray) -> np.ndarray:
    """float64 (N,)."""
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


if __name__ == "__main__":
    main(cases, __doc__, repeats=5, quick=2)

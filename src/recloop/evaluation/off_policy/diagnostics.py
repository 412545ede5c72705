"""Whether a log can answer for a target policy at all: what is checked before any estimate is believed.

Under the logged probabilities every w has mean 1 given the items above it, whatever people do; so the
weights themselves, without a single reward, tell of wrong propensities, of a logging policy that drifted
away from what was logged, and of target mass that the log could not show (the control variate of Swaminathan
and Joachims 2015, section 3).
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
from scipy import stats

from recloop.evaluation.off_policy.intervals import by_person
from recloop.evaluation.off_policy.log import Log
from recloop.features import Steps

MISSING = 0.5  # share of requests without propensities, above which the rest is no picture of all
OVERLAP = 0.9  # share of what the target shows that the log must have shown
OFF = 0.05  # mean weights this near to 1 bias an estimate by no more than this share
ACCIDENT = 0.0001  # p value below which a mean weight is no accident
SLICES = 10
SLICE_SAMPLE = 100.0  # effective rows that a slice of time needs for its test
QUANTILES = {"median": 0.5, "p90": 0.9, "p99": 0.99}


@dataclass(frozen=True)
class Diagnosis:
    """What the log says about itself and the target, and why it cannot answer, if so.

    Attributes:
        refusal: the reason not to estimate anything; empty where the log can answer.
        requests: rows of the log.
        missing: share of all requests that lack propensities.
        certain: share of all requests whose slate was shown with certainty.
        overlap: share of the target's slates that the log shows anywhere.
        mean_weight: mean of w; 1 where propensities are right and cover the target.
        mean_weight_p: p value of its being 1, clustered by person.
        worst_slice: the slices' mean weight that is farthest from 1 in its standard errors.
        drift_p: p value of the slices' mean weights having nothing but accidents between them and 1.
        median: of the slate's weights; p90 and p99 likewise.
        p90: see median.
        p99: see median.
        largest: the largest weight of a slate.
    """

    refusal: str
    requests: int
    missing: float
    certain: float
    overlap: float = 0.0
    mean_weight: float = 0.0
    mean_weight_p: float = 1.0
    worst_slice: float = 1.0
    drift_p: float = 1.0
    median: float = 0.0
    p90: float = 0.0
    p99: float = 0.0
    largest: float = 0.0

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON; ``outcome`` and ``why`` as an estimate has them."""
        figures = asdict(self)
        why = figures.pop("refusal")
        return {"outcome": "no-data" if why else "ok"} | ({"why": why} if why else {}) | figures


def diagnose(log: Log) -> Diagnosis:
    """Check the log; the first check that fails gives the refusal."""
    rows = len(log.person)
    total = rows + log.missing + log.certain
    missing, certain = (count / total if total else 0.0 for count in (log.missing, log.certain))
    if not rows:
        why = "no request in the log has propensities"
        if log.certain:
            why += f" of chance: {log.certain} showed their slate with certainty"
        return Diagnosis(why, 0, missing, certain)
    mean, p = _mean_weight(log.ratio, log.real, log.person)
    worst, drift = _slices(log)
    slates = log.weights("slate").max(1)
    found = Diagnosis(
        refusal="",
        requests=rows,
        missing=missing,
        certain=certain,
        overlap=float(log.covered.mean()),
        mean_weight=mean,
        mean_weight_p=p,
        worst_slice=worst,
        drift_p=drift,
        largest=float(slates.max()),
        **{name: float(np.quantile(slates, q)) for name, q in QUANTILES.items()},
    )
    return replace(found, refusal=_refusal(found))


def _refusal(found: Diagnosis) -> str:
    if found.missing > MISSING:
        return (
            f"{found.missing:.0%} of the requests have no propensities: the others may be no picture of all."
            " Log the propensity with every impression"
        )
    if found.overlap < OVERLAP or found.largest == 0:
        return (
            f"no overlap: the log shows {found.overlap:.0%} of what this policy would show"
            f" and gives its slates a weight of {found.largest:.3g} at most."
            " Explore more with the policy that logs"
        )
    if found.mean_weight_p < ACCIDENT and abs(found.mean_weight - 1) > OFF:
        cause = (
            "the logged propensities are too low"
            if found.mean_weight > 1
            else "the logged propensities are too high, or the log could not show a part of this policy"
        )
        return (
            f"the weights have mean {found.mean_weight:.3f} instead of 1 (p = {found.mean_weight_p:.1g}):"
            f" {cause}"
        )
    if found.drift_p < ACCIDENT and abs(found.worst_slice - 1) > OFF:
        return (
            f"the logging policy drifted away from its logged propensities: in one slice of time the weights"
            f" have mean {found.worst_slice:.3f} instead of 1 (p = {found.drift_p:.1g})"
        )
    return ""


def effective_sample(weights: np.ndarray, real: np.ndarray) -> float:
    """(sum W)^2 / sum W^2 of float (R, K) weights, in rows (Kish 1965, section 8.2)."""
    squares = float(np.square(weights).sum())
    return float(weights.sum() ** 2 / squares / real.sum(1).mean()) if squares > 0 else 0.0


def _mean_weight(ratio: np.ndarray, real: np.ndarray, person: np.ndarray) -> tuple[float, float]:
    """Mean of w over all positions, and the p value of 1, clustered by person.

    Given the items above it each w has mean 1, so that sums over a slate and over a person's requests are
    sums of what has mean 0. Few large weights carry the mean: without them it looks too small and too sure.
    So t is corrected for skewness g: ``t + g t^2 / (3 sqrt n) + g^2 t^3 / (27 n) + g / (6 sqrt n)`` (Hall
    1992, "On the removal of skewness by transformation", section 2).
    """
    share = real.sum(1).mean()
    centred = np.where(real, ratio - 1, 0).sum(1) / share
    values = by_person(centred[:, None], person)[:, 0]
    gap, n = float(values.mean()), len(values)
    error = float(values.std(ddof=1)) / n**0.5 if n > 1 else np.inf
    if error <= 1e-12:
        return 1 + gap, 1.0 if abs(gap) < 1e-9 else 0.0
    t, g = gap / error, float(np.power((values - gap) / (error * n**0.5), 3).mean())
    t += g * t**2 / (3 * n**0.5) + g**2 * t**3 / (27 * n) + g / (6 * n**0.5)
    return 1 + gap, float(2 * stats.t.sf(abs(t), max(n - 1, 1)))


def _slices(log: Log) -> tuple[float, float]:
    """The mean weight of the slice of time that is least likely an accident, and its p value.

    The p value is of the least of the slices' (Bonferroni). There are as many slices, 10 at most, as leave
    each ``SLICE_SAMPLE`` effective rows on average.
    """
    enough = effective_sample(np.where(log.real, log.ratio, 0), log.real) / SLICE_SAMPLE
    count = int(min(SLICES, enough))
    if count < 2:
        return 1.0, 1.0
    order = np.argsort(log.ts, kind="stable")
    tests = [
        _mean_weight(log.ratio[rows], log.real[rows], log.person[rows])
        for rows in np.array_split(order, count)
    ]
    mean, p = min(tests, key=lambda test: test[1])
    return mean, min(1.0, p * count)


@dataclass(frozen=True)
class Calibration:
    """Logged propensities against how often items were shown; G groups of items.

    Attributes:
        shown: int64 (G,), requests that begin with an item of the group.
        ratio: float64 (G,), how often the group was shown to how often its propensities say: 1 if right.
        error: float64 (G,), standard error of the ratio, clustered by person.
    """

    shown: np.ndarray
    ratio: np.ndarray
    error: np.ndarray

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON: the ratio that is farthest from 1 in its standard errors, and its standard error."""
        if not len(self.shown):
            return {}
        worst = int(np.abs((self.ratio - 1) / np.maximum(self.error, 1e-12)).argmax())
        return {"calibration": float(self.ratio[worst]), "calibration_error": float(self.error[worst])}


def calibrate(steps: Steps, n_items: int, launched: np.ndarray | None = None, groups: int = 5) -> Calibration:
    """Check the first position's propensities p in groups of items, from rarely to often shown.

    Since ``E[1(item = i) / p] = 1`` for every item that can be shown, the mean of ``1(item in g) / p``
    is the number of g's items. It needs no probabilities of what was not shown. ``launched`` int64 (N,)
    says since when an item could be shown; one that could not for another reason pulls its group below 1
    as a propensity does that is too high.
    """
    item, p = steps.slate[:, 0], steps.propensity[:, 0]
    usable = np.flatnonzero((item < n_items) & (p > 0) & (p < 1))
    if not len(usable):
        return Calibration(np.zeros(0, np.int64), np.zeros(0), np.zeros(0))
    item, p = item[usable], p[usable]
    counts = np.bincount(item, minlength=n_items)
    order = np.argsort(counts, kind="stable")
    parts = np.array_split(order[counts[order] > 0], min(groups, int((counts > 0).sum())))
    group = np.full(n_items, -1)
    for g, part in enumerate(parts):
        group[part] = g
    seen = (group[item, None] == np.arange(len(parts))) / p[:, None]
    since = np.zeros(n_items, np.int64) if launched is None else launched
    there = np.stack(
        [np.searchsorted(np.sort(since[part]), steps.ts[usable], side="right") for part in parts], 1
    )
    gaps = by_person(seen - there, steps.user[usable]) / there.mean(0)
    error = gaps.std(0, ddof=min(1, len(gaps) - 1)) / len(gaps) ** 0.5
    return Calibration(np.array([counts[part].sum() for part in parts]), 1 + gaps.mean(0), error)

"""Intervals around means of contributions, clustered: what one person did is not independent.

The bootstrap resamples people (Efron 1979; Davison and Hinkley 1997, section 3.8). Weights are skewed, and
so is the distribution of an estimate: the studentised interval follows the skewness to second order (Hall
1988, "Theoretical comparison of bootstrap confidence intervals"), the percentile interval does not. The
empirical Bernstein bound needs no large sample, but bounded values, and is far wider.
"""

from typing import Literal

import numpy as np

GROUPS = 4096  # people are resampled in at most so many groups, formed by chance
BATCH = 32
Kind = Literal["studentised", "percentile"]


def by_person(contributions: np.ndarray, person: np.ndarray) -> np.ndarray:
    """float64 (U, E): a value per person, whose mean is that of float64 (R, E) contributions.

    People with many rows count for more, and their number of rows is itself random: with m the mean
    over rows, a person's value is ``m + (U/R) sum_rows (c - m)`` (linearised ratio; Cochran 1977, eq. 6.11).
    """
    _, place = np.unique(person, return_inverse=True)
    mean = contributions.mean(0)
    people = int(place.max()) + 1
    sums = np.stack([np.bincount(place, column, people) for column in (contributions - mean).T], 1)
    return mean + sums * people / len(person)


def bootstrap(
    values: np.ndarray, times: int, seed: int, kind: Kind = "studentised", confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends, float64 (E,) each, of the means of float64 (U, E), one row per person.

    All columns share their resamples. Infinitely wide for a single person.
    """
    mean, people = values.mean(0), len(values)
    if people < 2:
        return np.full_like(mean, -np.inf), np.full_like(mean, np.inf)
    rng = np.random.default_rng([seed, 9])
    grouped = _grouped(values - mean, rng)
    groups = len(grouped)
    moments = _resample(np.hstack([grouped, np.square(grouped)]), times, rng) / groups
    first, second = np.hsplit(moments, 2)
    scale = groups / people  # of a group's sum to its people's mean
    tail = (1 - confidence) / 2
    if kind == "studentised":
        error = _error(np.square(grouped).mean(0), groups)
        spread = _error(second - np.square(first), groups)
        alike = np.copysign(np.where(np.abs(first) > 1e-9 * error, np.inf, 0), first)
        t = np.divide(first, spread, out=alike, where=spread > 1e-9 * error)
        upper, lower = np.quantile(t, [tail, 1 - tail], axis=0, method="inverted_cdf")
        return mean - lower * error * scale, mean - upper * error * scale
    low, high = np.quantile(first, [tail, 1 - tail], axis=0)
    return mean + low * scale, mean + high * scale


def _error(variance: np.ndarray, groups: int) -> np.ndarray:
    return np.sqrt(np.maximum(variance, 0) / (groups - 1))


def _grouped(centred: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """float64 (G, E): sums of the rows of at most ``GROUPS`` groups of nearly equal size."""
    if len(centred) <= GROUPS:
        return centred
    starts = np.linspace(0, len(centred), GROUPS, endpoint=False).astype(np.int64)
    return np.add.reduceat(centred[rng.permutation(len(centred))], starts)


def _resample(columns: np.ndarray, times: int, rng: np.random.Generator) -> np.ndarray:
    """float64 (times, C): sums of rows drawn with replacement."""
    rows = len(columns)
    sums = np.empty((times, columns.shape[1]))
    for at in range(0, times, BATCH):
        drawn = rng.integers(rows, size=(min(BATCH, times - at), rows))
        sums[at : at + BATCH] = (
            np.stack([np.bincount(d, minlength=rows) for d in drawn]).astype(float) @ columns
        )
    return sums


def empirical_bernstein(
    values: np.ndarray, least: float, most: float, confidence: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of independent float64 (n,) values within [least, most], for every n >= 2.

    Maurer and Pontil 2009, "Empirical Bernstein bounds and sample-variance penalization", theorem 4, for
    both sides: mean +- (sqrt(2 V ln(4/d) / n) + 7 (most - least) ln(4/d) / (3 (n - 1))), d = 1 - confidence,
    V the sample variance.

    Raises:
        ValueError: a value lies outside, so that the bound would not hold.
    """
    if values.min() < least or values.max() > most:
        raise ValueError(
            f"values reach from {values.min():g} to {values.max():g}, beyond {least:g} to {most:g}"
        )
    n = len(values)
    if n < 2:
        return least, most
    level = np.log(4 / (1 - confidence))
    half = np.sqrt(2 * values.var(ddof=1) * level / n) + 7 * (most - least) * level / (3 * (n - 1))
    mean = float(values.mean())
    return max(least, mean - float(half)), min(most, mean + float(half))


def clustered_bernstein(
    contributions: np.ndarray,
    person: np.ndarray,
    least: float,
    most: float,
    longest: int,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The same for float64 (R,) contributions within [least, most] of people with at most ``longest`` rows.

    Independent are people: a bound for the sum over a person's rows and one for their number, each at half
    the error, bound the quotient of their means.

    Raises:
        ValueError: a contribution lies outside, or somebody has more rows.
    """
    if contributions.min() < least or contributions.max() > most:
        raise ValueError(
            f"contributions reach from {contributions.min():g} to {contributions.max():g},"
            f" beyond {least:g} to {most:g}"
        )
    _, place = np.unique(person, return_inverse=True)
    rows = np.bincount(place).astype(float)
    above = np.bincount(place, contributions - least)
    half = (1 + confidence) / 2
    low, high = empirical_bernstein(above, 0, longest * (most - least), half)
    fewest, largest = empirical_bernstein(rows, 1, longest, half)
    return least + low / largest, min(most, least + high / fewest)

"""Difference of two ratio metrics (reward per request) when people, not requests, are independent."""

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Clusters:
    """One arm, one entry per person.

    Attributes:
        totals: float64 (n,), the person's summed metric.
        counts: float64 (n,), how many requests it is summed over, each at least 1.
    """

    totals: np.ndarray
    counts: np.ndarray

    def __post_init__(self) -> None:
        if self.totals.shape != self.counts.shape or self.totals.ndim != 1:
            raise ValueError(f"totals {self.totals.shape} and counts {self.counts.shape} must be (n,) both")
        if (self.counts < 1).any():
            raise ValueError("every person needs at least one request")

    @property
    def mean(self) -> float:
        """Total over count of the arm; NaN when empty."""
        return float(self.totals.sum() / self.counts.sum()) if len(self.counts) else float("nan")

    @property
    def linear(self) -> np.ndarray:
        """float64 (n,): one value per person whose mean is ``mean`` and whose variance is the delta method's.

        ``R + (total - R count) / mean(count)`` with R the ratio of sums (Deng, Knoblich and Lu, "Applying the
        Delta Method in Metric Analytics", KDD 2018, section 3.1).
        """
        if not len(self.counts):
            return np.zeros(0)
        return self.mean + (self.totals - self.mean * self.counts) / self.counts.mean()

    @property
    def variance(self) -> float:
        """Variance of ``mean``, robust to what a person's requests share; infinite below two people."""
        n = len(self.counts)
        return float(self.linear.var(ddof=1)) / n if n > 1 else float("inf")

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Bounds of ``mean`` by Student's t over people; infinite below two people."""
        n = len(self.counts)
        if n < 2:
            return float("-inf"), float("inf")
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * self.variance**0.5
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Moments:
    """What is left of ``Clusters`` when people are summed up: enough for the mean and its interval.

    Attributes:
        people: n.
        total: sum of the totals.
        count: sum of the counts.
        total_squared: sum of the totals' squares.
        count_squared: sum of the counts' squares.
        product: sum of total times count.
    """

    people: int
    total: float
    count: float
    total_squared: float
    count_squared: float
    product: float

    @property
    def mean(self) -> float:
        """As ``Clusters.mean``."""
        return self.total / self.count if self.count else float("nan")

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """As ``Clusters.interval``: the squares of ``total - mean count`` are multiplied out."""
        n, mean = self.people, self.mean
        if n < 2:
            return float("-inf"), float("inf")
        squares = self.total_squared - 2 * mean * self.product + mean**2 * self.count_squared
        error = (max(squares, 0.0) * n / (n - 1)) ** 0.5 / self.count
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * error
        return mean - half, mean + half


@dataclass(frozen=True)
class Difference:
    """Treatment minus control with a confidence interval; infinite bounds say that data is lacking."""

    control: float
    treatment: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Welch:
    """Treatment minus control before a level is chosen.

    Attributes:
        gap: the difference of the means.
        error: its standard error; infinite where an arm has fewer than two people.
        freedom: degrees of freedom (Welch and Satterthwaite).
    """

    gap: float
    error: float
    freedom: float

    @classmethod
    def of(cls, control: Clusters, treatment: Clusters) -> "Welch":
        """Compare two arms of people."""
        parts = [(arm.variance, len(arm.counts) - 1) for arm in (control, treatment)]
        total = sum(variance for variance, _ in parts)
        gap = treatment.mean - control.mean
        if not np.isfinite(total) or total == 0:
            return cls(gap, total**0.5, float("inf"))
        return cls(gap, total**0.5, total**2 / sum(variance**2 / n for variance, n in parts))

    @property
    def z(self) -> float:
        """The standard normal quantile that is as unlikely as the t statistic; 0 where data is lacking."""
        if not np.isfinite(self.error) or self.gap == 0:
            return 0.0
        if self.error == 0:
            return float(np.copysign(np.inf, self.gap))
        size = stats.norm.isf(stats.t.sf(abs(self.gap) / self.error, self.freedom))
        return float(np.copysign(size, self.gap))

    def half_width(self, z: float) -> float:
        """Half of the interval that is as likely to miss as ``z`` standard errors of a normal are."""
        if not np.isfinite(self.error):
            return float("inf")
        return float(stats.t.isf(stats.norm.sf(z), self.freedom)) * self.error if self.error else 0.0


def difference(control: Clusters, treatment: Clusters, confidence: float = 0.95) -> Difference:
    """Compare two arms of people, once, by Welch's interval on the clustered means.

    With one request per person this is Welch's t interval on the values themselves. Who looks again and
    again takes ``sequence.watched``.
    """
    return bounded(control, treatment, float(stats.norm.ppf((1 + confidence) / 2)))


def bounded(control: Clusters, treatment: Clusters, z: float) -> Difference:
    """The difference and the interval of ``z`` standard errors, in Student's t."""
    found = Welch.of(control, treatment)
    half = found.half_width(z)
    low, high = (found.gap - half, found.gap + half) if np.isfinite(half) else (-np.inf, np.inf)
    return Difference(control.mean, treatment.mean, found.gap, float(low), float(high))

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
    def variance(self) -> float:
        """Variance of ``mean`` by the delta method; infinite below two people.

        With n people and R the ratio of sums, it is ``var(total - R count) / (n mean(count)^2)``
        (Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018, section 3.1).
        """
        n = len(self.counts)
        if n < 2:
            return float("inf")
        residuals = self.totals - self.mean * self.counts
        return float((residuals**2).sum() / (n - 1) / n / self.counts.mean() ** 2)

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Bounds of ``mean`` by Student's t over people; infinite below two people."""
        n = len(self.counts)
        if n < 2:
            return float("-inf"), float("inf")
        half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * self.variance**0.5
        return self.mean - half, self.mean + half


@dataclass(frozen=True)
class Difference:
    """Treatment minus control with a confidence interval; infinite bounds say that data is lacking."""

    control: float
    treatment: float
    difference: float
    low: float
    high: float


def difference(control: Clusters, treatment: Clusters, confidence: float = 0.95) -> Difference:
    """Compare two arms of people by Welch's interval on the clustered means.

    With one request per person this is Welch's t interval on the values themselves.
    """
    gap = treatment.mean - control.mean
    parts = [(arm.variance, len(arm.counts) - 1) for arm in (control, treatment)]
    total = sum(variance for variance, _ in parts)
    if not np.isfinite(total):
        return Difference(control.mean, treatment.mean, gap, float("-inf"), float("inf"))
    if total == 0:
        return Difference(control.mean, treatment.mean, gap, gap, gap)
    freedom = total**2 / sum(variance**2 / n for variance, n in parts)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * total**0.5
    return Difference(control.mean, treatment.mean, gap, gap - half, gap + half)


def sample_ratio(control: int, treatment: int, share: float) -> float:
    """Two-sided p value that ``share`` of the people went to treatment (exact binomial test).

    A small one (below 0.001, say) means that something other than the assignment chose who is in
    which arm, so that the arms cannot be compared.
    """
    return float(stats.binomtest(treatment, control + treatment, share).pvalue)


def excess(count: int, total: int, share: float) -> float:
    """One-sided p value that at most ``share`` of ``total`` is the rule (exact binomial test)."""
    return float(stats.binomtest(count, total, share, alternative="greater").pvalue)

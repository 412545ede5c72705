"""Distances between two samples, with thresholds that know how large the samples are.

A small sample is always some way off; a huge one shows differences that matter to nobody. So drift
has to be both more than chance (at ``CHANCE``) and more than ``MATTERS``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CHANCE = 0.001
MATTERS = 0.1  # PSI above which one usually speaks of a shift; also the least KS distance that counts


@dataclass(frozen=True)
class Drift:
    """One feature's distance between reference and recent sample.

    Attributes:
        distance: population stability index, or Kolmogorov-Smirnov's D.
        threshold: what it must exceed to count.
        reference: size of the sample.
        recent: size of the sample.
    """

    feature: str
    distance: float
    threshold: float
    reference: int
    recent: int

    @property
    def drifted(self) -> bool:
        """Whether the distance is more than chance and matters."""
        return self.distance > self.threshold


def categories_drift(feature: str, reference: Sequence[str], recent: Sequence[str]) -> Drift | None:
    """Population stability index over the values; None where a sample is empty."""
    return counts_drift(feature, Counter(reference), Counter(recent))


def counts_drift(
    feature: str, reference: Mapping[str, float], recent: Mapping[str, float], matters: float = MATTERS
) -> Drift | None:
    """Population stability index over counts by value; None where a sample is empty.

    ``PSI = sum (q - p) ln(q / p)``, with half a count added to every cell. Without drift it is
    about ``(1/n + 1/m) chi2`` with one degree of freedom less than there are values (Yurdakul and
    Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
    Validation 14(4), 2020).
    """
    n, m = sum(reference.values()), sum(recent.values())
    if not n or not m:
        return None
    names = sorted(
        name for name in reference.keys() | recent.keys() if reference.get(name) or recent.get(name)
    )
    cells = np.array([[count.get(name, 0) for name in names] for count in (reference, recent)], float) + 0.5
    p, q = cells / cells.sum(1, keepdims=True)
    distance = float(((q - p) * np.log(q / p)).sum())
    chance = stats.chi2.ppf(1 - CHANCE, max(len(names) - 1, 1)) * (1 / n + 1 / m)
    return Drift(feature, distance, max(matters, float(chance)), int(n), int(m))


def numbers_drift(feature: str, reference: Sequence[float], recent: Sequence[float]) -> Drift | None:
    """Two-sample Kolmogorov-Smirnov distance; None where a sample is empty.

    Chance by the asymptotic bound ``sqrt(-ln(a / 2) (1/n + 1/m) / 2)`` (Smirnov 1948).
    """
    if not reference or not recent:
        return None
    distance = float(stats.ks_2samp(reference, recent, method="asymp").statistic)
    chance = (-np.log(CHANCE / 2) * (1 / len(reference) + 1 / len(recent)) / 2) ** 0.5
    return Drift(feature, distance, max(MATTERS, float(chance)), len(reference), len(recent))

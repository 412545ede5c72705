"""Distances between two samples, with thresholds that know how large the samples are.

A small sample is always some way off; a huge one shows differences that matter to nobody. So drift
has to be both more than chance (at ``CHANCE``, or less where one looks often) and more than ``MATTERS``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

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
    feature: str,
    reference: Mapping[str, float],
    recent: Mapping[str, float],
    matters: float = MATTERS,
    chance: float = CHANCE,
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
    least = _chi2(max(len(names) - 1, 1), chance) * (1 / n + 1 / m)
    return Drift(feature, distance, max(matters, least), int(n), int(m))


def numbers_drift(feature: str, reference: Sequence[float], recent: Sequence[float]) -> Drift | None:
    """Two-sample Kolmogorov-Smirnov distance; None where a sample is empty.

    Chance by the asymptotic bound ``sqrt(-ln(a / 2) (1/n + 1/m) / 2)`` (Smirnov 1948).
    """
    if not reference or not recent:
        return None
    distance = float(stats.ks_2samp(reference, recent, method="asymp").statistic)
    chance = (-np.log(CHANCE / 2) * (1 / len(reference) + 1 / len(recent)) / 2) ** 0.5
    return Drift(feature, distance, max(MATTERS, float(chance)), len(reference), len(recent))


def mix_drift(
    feature: str,
    reference: Mapping[str, float],
    recent: Mapping[str, float],
    matters: float = MATTERS / 8,
    chance: float = CHANCE,
) -> Drift | None:
    """Jensen-Shannon divergence in nats between counts by value; None where a sample is empty.

    ``JS = H((p + q) / 2) - (H(p) + H(q)) / 2`` (Lin, "Divergence measures based on the Shannon entropy",
    IEEE Transactions on Information Theory 37(1), 1991). For near distributions it is an eighth of the PSI,
    so that without drift ``8 JS / (1/n + 1/m)`` is about chi2 with one degree of freedom less than there are
    values. It is bounded by ln 2, also where a value is new; the PSI makes much of few that are.
    """
    n, m = sum(reference.values()), sum(recent.values())
    if not n or not m:
        return None
    names = sorted(reference.keys() | recent.keys())
    p, q = _shares(reference, names), _shares(recent, names)
    middle = (p + q) / 2
    distance = float(np.sum(_relative(p, middle) + _relative(q, middle)) / 2)
    least = _chi2(max(len(names) - 1, 1), chance) * (1 / n + 1 / m) / 8
    return Drift(feature, distance, max(matters, least), int(n), int(m))


def steps_drift(
    feature: str,
    reference: Mapping[str, float],
    recent: Mapping[str, float],
    matters: float = MATTERS,
    chance: float = CHANCE,
) -> Drift | None:
    """Kolmogorov-Smirnov distance between counts by the lower bound of a number's step, as text.

    Between numbers that were put into steps it is at most that between the numbers, and so is its chance
    (Noether, "Note on the Kolmogorov statistic in the discrete case", Metrika 7, 1963).
    """
    n, m = sum(reference.values()), sum(recent.values())
    if not n or not m:
        return None
    names = sorted(reference.keys() | recent.keys(), key=float)
    p, q = (np.cumsum(_shares(counts, names)) for counts in (reference, recent))
    least = (-np.log(chance / 2) * (1 / n + 1 / m) / 2) ** 0.5
    return Drift(feature, float(np.abs(p - q).max()), max(matters, float(least)), int(n), int(m))


def _shares(counts: Mapping[str, float], names: Sequence[str]) -> np.ndarray:
    return np.array([counts.get(name, 0) for name in names]) / sum(counts.values())


def _relative(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """``p ln(p / q)``, 0 where p is."""
    return np.where(p > 0, p * np.log(np.where(p > 0, p, 1) / np.where(q > 0, q, 1)), 0.0)


@cache
def _chi2(degrees: int, chance: float) -> float:
    return float(stats.chi2.isf(chance, degrees))

"""A planned number of people and a few looks on the way: stop early for a win, a loss, or for futility.

Z_1..Z_K at information fractions t_1..t_K (people seen to people planned) are normal with means ``drift
sqrt(t_k)`` and covariances ``sqrt(t_j / t_k)``. Crossing probabilities follow by integrating the density of
those who have not stopped from look to look (Armitage, McPherson and Rowe, "Repeated significance tests on
accumulating data", JRSS A 132(2), 1969; Jennison and Turnbull, "Group Sequential Methods", 2000, ch. 19).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import optimize, special

Spending = Callable[[float, float], float]
NODES = 256
REACH = 8.0  # standard deviations beyond which a density is nil
CLOSEST = 0.01  # difference of two fractions that the grid still resolves


def obrien_fleming(fraction: float, total: float) -> float:
    """What may be spent until then, little at first: ``2 - 2 Phi(z_{total/2} / sqrt(t))``.

    Lan and DeMets, "Discrete sequential boundaries for clinical trials", Biometrika 70(3), 1983, alpha_1*.
    """
    return float(2 * special.ndtr(special.ndtri(total / 2) / min(fraction, 1.0) ** 0.5))


@dataclass(frozen=True)
class Bounds:
    """What Z is compared with, per look.

    Attributes:
        fractions: information fractions, ascending.
        efficacy: a Z at or above is a win, at or below minus it a loss.
        futility: a Z below means that what was planned for is not to be reached; not binding.
    """

    fractions: tuple[float, ...]
    efficacy: tuple[float, ...]
    futility: tuple[float, ...]


@dataclass(frozen=True)
class Design:
    """A test with looks at equal distances.

    Attributes:
        looks: how many, with the last.
        alpha: two-sided probability of a false win or loss over all looks.
        power: probability of a win where the effect is as planned, futility obeyed.
        drift: mean of Z at the last look under that effect.
        inflation: people planned, to people of a test with the last look alone.
    """

    looks: int
    alpha: float
    power: float
    drift: float
    inflation: float

    @property
    def fractions(self) -> tuple[float, ...]:
        """When to look."""
        return tuple((k + 1) / self.looks for k in range(self.looks))

    def bounds(self, fractions: Sequence[float] | None = None) -> Bounds:
        """Bounds at the fractions at which one did look, or at those planned."""
        times = tuple(self.fractions if fractions is None else fractions)
        upper = efficacy(times, self.alpha / 2)
        return Bounds(times, upper, futility(times, upper, 1 - self.power, self.drift))

    def expected(self, drift: float) -> float:
        """Mean share of the planned people until a verdict, where Z has this drift at the last look."""
        bounds = self.bounds()
        lower, upper = crossing(bounds.fractions, bounds.futility, bounds.efficacy, drift)
        stops = (lower + upper)[:-1]
        return float(stops @ np.array(bounds.fractions[:-1]) + 1 - stops.sum())


@lru_cache(maxsize=64)
def design(looks: int, alpha: float = 0.05, power: float = 0.8) -> Design:
    """The design whose power is as asked for; its last futility bound is its last efficacy bound.

    Raises:
        ValueError: a figure is outside its range.
    """
    if not (1 <= looks <= 50 and 0 < alpha < 1 and alpha / 2 < power < 1):
        raise ValueError(
            f"a design needs 1 to 50 looks, 0 < alpha < 1 and alpha/2 < power < 1,"
            f" not looks={looks}, alpha={alpha}, power={power}"
        )
    times = [(k + 1) / looks for k in range(looks)]
    upper = efficacy(times, alpha / 2)
    fixed = float(special.ndtri(power) - special.ndtri(alpha / 2))

    def missing(drift: float) -> float:
        lower = futility(times, upper, 1 - power, drift)
        return float(crossing(times, lower, upper, drift)[1].sum()) - power

    drift = fixed if looks == 1 else optimize.brentq(missing, 0.98 * fixed, 1.6 * fixed, xtol=1e-7)
    return Design(looks, alpha, power, drift, (drift / fixed) ** 2)


def efficacy(
    fractions: Sequence[float], total: float, spending: Spending = obrien_fleming
) -> tuple[float, ...]:
    """Symmetric bounds that spend ``total`` on each side, at whatever fractions one looked.

    Raises:
        ValueError: fractions do not ascend within (0, 1], or two are closer than ``CLOSEST``.
    """
    walk, found = _Walk(0.0), list[float]()
    for time, spent in _spent(fractions, total, spending):
        walk.step(time)
        bound = REACH if spent < 1e-15 else walk.bound_above(spent)
        walk.stop(-bound, bound)
        found.append(bound)
    return tuple(found)


def futility(
    fractions: Sequence[float],
    upper: Sequence[float],
    total: float,
    drift: float,
    spending: Spending = obrien_fleming,
) -> tuple[float, ...]:
    """Bounds below which one may stop: under ``drift``, ``total`` is spent on missing the effect.

    At fraction 1 the bound is that of efficacy: there is no third answer at the end.
    """
    walk, found = _Walk(drift), list[float]()
    for (time, spent), above in zip(_spent(fractions, total, spending), upper, strict=True):
        walk.step(time)
        below = above if time >= 1 else min(above, max(-above, walk.bound_below(spent)))
        walk.stop(below, above)
        found.append(below)
    return tuple(found)


def crossing(
    fractions: Sequence[float], lower: Sequence[float], upper: Sequence[float], drift: float
) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, per look, to end there below ``lower`` and above ``upper``: two float64 (K,)."""
    walk, below, above = _Walk(drift), [], []
    for time, low, high in zip(fractions, lower, upper, strict=True):
        walk.step(time)
        below.append(walk.below(low))
        above.append(walk.above(high))
        walk.stop(low, high)
    return np.array(below), np.array(above)


def _spent(fractions: Sequence[float], total: float, spending: Spending) -> Iterator[tuple[float, float]]:
    before, so_far = 0.0, 0.0
    for time in fractions:
        if not before + CLOSEST <= time + 1e-9 <= 1 + 2e-9:
            raise ValueError(
                f"looks must ascend within (0, 1] by {CLOSEST} at least,"
                f" not {[round(t, 4) for t in fractions]}"
            )
        spent = spending(time, total)
        yield time, max(0.0, spent - so_far)
        before, so_far = time, spent


class _Walk:
    """Scores S = Z sqrt(t) of those who have not stopped, on Gauss-Legendre nodes between the bounds."""

    def __init__(self, drift: float) -> None:
        self.drift, self.time, self.gain = drift, 0.0, 0.0
        self.nodes, self.mass = np.zeros(1), np.ones(1)

    def step(self, time: float) -> None:
        self.gain, self.time = time - self.time, time

    def _tail(self, bound: float, side: int) -> float:
        gaps = bound * self.time**0.5 - self.nodes - self.drift * self.gain
        return float(self.mass @ special.ndtr(side * gaps / self.gain**0.5))

    def above(self, bound: float) -> float:
        """Probability to get beyond the bound (of Z) at this look."""
        return self._tail(bound, -1)

    def below(self, bound: float) -> float:
        """Probability to fall below the bound (of Z) at this look."""
        return self._tail(bound, 1)

    def bound_above(self, spent: float) -> float:
        return optimize.brentq(lambda b: self.above(b) - spent, -REACH, REACH, xtol=1e-10)

    def bound_below(self, spent: float) -> float:
        if spent <= self.below(-REACH):
            return -REACH
        if spent >= self.below(REACH):
            return REACH
        return optimize.brentq(lambda b: self.below(b) - spent, -REACH, REACH, xtol=1e-10)

    def stop(self, lower: float, upper: float) -> None:
        """Go on with those between the bounds (of Z)."""
        root, mean = self.time**0.5, self.drift * self.time
        low, high = max(lower * root, mean - REACH * root), min(upper * root, mean + REACH * root)
        points, weights = _gauss()
        half = max(0.0, (high - low) / 2)
        nodes = (low + high) / 2 + half * points
        spread = self.gain**0.5
        gaps = (nodes[:, None] - self.nodes - self.drift * self.gain) / spread
        density = np.exp(-(gaps**2) / 2) @ self.mass / (spread * (2 * np.pi) ** 0.5)
        self.nodes, self.mass = nodes, density * weights * half


@lru_cache(maxsize=1)
def _gauss() -> tuple[np.ndarray, np.ndarray]:
    return np.polynomial.legendre.leggauss(NODES)

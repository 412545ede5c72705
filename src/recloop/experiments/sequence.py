"""Always-valid inference: figures that may be looked at as often as one likes, and acted on at any time.

A fixed interval that is computed again and again misses sooner or later. A confidence sequence misses at any
time at all with probability at most alpha (Howard, Ramdas, McAuliffe and Sekhon, "Time-uniform,
nonparametric, nonasymptotic confidence sequences", Annals of Statistics 49(2), 2021).
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import special

from recloop.experiments.difference import Clusters, Difference, Welch, bounded


def effective(control: float, treatment: float) -> float:
    """As many people (or requests), split evenly, would tell as much: ``4 / (1/n + 1/m)``."""
    return 4 / (1 / control + 1 / treatment) if control and treatment else 0.0


def critical(seen: float, alpha: float = 0.05) -> float:
    """Standard errors that the estimate stays within at all times, with probability 1 - alpha.

    The two-sided normal mixture ``sqrt((1 + r) log((1 + r) / (r alpha^2)))``, r = rho / seen, for estimated
    variances (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas, "Time-uniform central limit theory and
    asymptotic confidence sequences", Annals of Statistics 52(6), 2024, Theorem 2.2). rho makes it tightest
    at 1 (Howard et al. 2021, Proposition 3).

    Args:
        seen: information so far, to that at which bounds shall be tightest; 0.1 to 10 costs little.
        alpha: probability of ever missing.
    """
    if seen <= 0:
        return math.inf
    r = _rho(alpha) / seen
    return math.sqrt((1 + r) * (math.log1p(1 / r) - 2 * math.log(alpha)))


def always_valid_p(z: float, seen: float, alpha: float = 0.05) -> float:
    """The smallest alpha whose sequence excludes zero: ``sqrt((1+r)/r) exp(-z^2 / (2 (1+r)))``, at most 1.

    It is ever below a with probability at most a under no difference (the mixture sequential probability
    ratio test: Johari, Koomen, Pekelis and Walsh, "Always valid inference", Operations Research 70(3),
    2022). ``seen`` and ``alpha`` choose r, as in ``critical``.
    """
    if seen <= 0:
        return 1.0
    r = _rho(alpha) / seen
    return math.exp(min(0.0, 0.5 * math.log1p(1 / r) - z * z / (2 * (1 + r))))


def watched(
    control: Clusters, treatment: Clusters, seen: float, alpha: float = 0.05
) -> tuple[Difference, float]:
    """Compare two arms at any time, as often as one likes: the difference with its bounds, and a p value.

    Where people are few, Student's t takes the place of the normal at the same probability. ``seen`` and
    ``alpha`` as in ``critical``.
    """
    p = always_valid_p(Welch.of(control, treatment).z, seen, alpha)
    return bounded(control, treatment, critical(seen, alpha)), p


def sample_ratio(counts: Sequence[int], shares: Sequence[float], weight: float = 100.0) -> float:
    """Always-valid p value that people went to the arms by ``shares``.

    A small one (below 0.001, say) means that something other than the assignment chose who is in which arm,
    so that the arms cannot be compared. One over the Bayes factor of a Dirichlet(weight shares) against the
    shares themselves (Lindon and Malek, "Anytime-valid inference for multinomial count data", NeurIPS 2022).

    Args:
        counts: people per arm.
        shares: asked for, in the same order; they add up to 1.
        weight: how close to the shares a fault is expected; large finds small faults late.
    """
    n, asked = np.asarray(counts, float), np.asarray(shares, float)
    prior = weight * asked
    evidence = special.gammaln(prior + n).sum() - special.gammaln(prior).sum()
    evidence += special.gammaln(weight) - special.gammaln(weight + n.sum())
    return float(np.exp(min(0.0, special.xlogy(n, asked).sum() - evidence)))


def excess(count: int, total: int, share: float) -> float:
    """Always-valid p value that at most ``share`` of ``total`` is the rule.

    One over the likelihood ratio of a uniform mixture over larger shares, which is a non-negative
    supermartingale under every share that is allowed (Ville's inequality; Howard et al. 2021, section 3).
    """
    if total == 0 or share >= 1:
        return 1.0
    a, b = count + 1, total - count + 1
    evidence = float(special.betaln(a, b)) - math.log1p(-share)
    beyond = float(special.betaincc(a, b, share))
    if beyond == 0:
        return 1.0
    evidence += math.log(beyond) - float(special.xlogy(count, share)) - (total - count) * math.log1p(-share)
    return math.exp(min(0.0, -evidence))


def _rho(alpha: float) -> float:
    return -1 / (special.lambertw(-(alpha**2) / math.e, -1).real + 1)

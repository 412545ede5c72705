"""Estimators of a target policy's mean reward per request, each one function of the same arrays.

A function returns the *contribution* of every row, float64 (R,), whose mean is the estimate. Where the
estimate is a ratio, a contribution is the estimate's linearisation in that row (its influence value; Hampel
1974), so that intervals need to know nothing of the estimator. Another estimator is a function here and its
line in ``ESTIMATORS``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CLIP = 20.0
SWITCH = 10.0
SHRINKAGE = 100.0


@dataclass(frozen=True)
class Weighed:
    """R rows of K positions, with the weights that a view of the slate gives them; float64.

    Attributes:
        reward: (R, K), r.
        weight: (R, K), W; 0 where the row has no such position.
        real: bool (R, K), the row has the position.
        predicted: (R, K), q of what was logged.
        direct: (R,), q of what the target policy would show, summed over positions.
    """

    reward: np.ndarray
    weight: np.ndarray
    real: np.ndarray
    predicted: np.ndarray
    direct: np.ndarray


Estimator = Callable[[Weighed], np.ndarray]


def ips(x: Weighed) -> np.ndarray:
    """``mean(sum_j W_j r_j)``. Horvitz and Thompson 1952. Unbiased if the log covers the target."""
    return (x.weight * x.reward).sum(1)


def snips(x: Weighed) -> np.ndarray:
    """``sum_j (sum_i W_ij r_ij) / (sum_i W_ij)``. Swaminathan and Joachims 2015, eq. 5. Consistent."""
    return normalised(x.weight, x.reward, x.real).sum(1)


def clipped(x: Weighed, clip: float = CLIP) -> np.ndarray:
    """``mean(sum_j min(W_j, clip) r_j)``. Ionides 2008, eq. 2. Too low where rewards are positive."""
    return (np.minimum(x.weight, clip) * x.reward).sum(1)


def dm(x: Weighed) -> np.ndarray:
    """``mean(q(x, target))``: the direct method. Dudík, Langford and Li 2011, eq. 1. As good as q."""
    return x.direct


def dr(x: Weighed) -> np.ndarray:
    """``mean(q(x, target) + sum_j W_j (r_j - q_j))``. Dudík, Langford and Li 2011, eq. 2.

    Unbiased if either the weights or q are right.
    """
    return x.direct + (x.weight * (x.reward - x.predicted)).sum(1)


def sndr(x: Weighed) -> np.ndarray:
    """``mean(q(x, target)) + sum_j (sum_i W_ij (r_ij - q_ij)) / (sum_i W_ij)``: DR, self-normalised.

    Kallus and Uehara 2019, "Intrinsically efficient, stable, and bounded off-policy evaluation for
    reinforcement learning", section 2.
    """
    return x.direct + normalised(x.weight, x.reward - x.predicted, x.real).sum(1)


def switch_dr(x: Weighed, threshold: float = SWITCH) -> np.ndarray:
    """``mean(q(x, target) + sum_j W_j 1(W_j <= threshold) (r_j - q_j))``.

    Wang, Agarwal and Dudík 2017, "Optimal and adaptive off-policy evaluation in contextual bandits",
    section 4. 0 is the direct method, infinity DR.
    """
    kept = x.weight <= threshold if threshold > 0 else np.zeros(x.weight.shape, bool)
    return x.direct + (np.where(kept, x.weight, 0) * (x.reward - x.predicted)).sum(1)


def dr_optimistic(x: Weighed, shrinkage: float = SHRINKAGE) -> np.ndarray:
    """DR with the weights ``shrinkage W / (W^2 + shrinkage)``: DRos. 0 is DM, infinity DR.

    Su, Dimakopoulou, Krishnamurthy and Dudík 2020, "Doubly robust off-policy evaluation with
    shrinkage", section 3.2.
    """
    if np.isinf(shrinkage):
        return dr(x)
    bottom = np.square(x.weight) + shrinkage
    weight = np.divide(shrinkage * x.weight, bottom, out=np.zeros_like(bottom), where=bottom > 0)
    return x.direct + (weight * (x.reward - x.predicted)).sum(1)


def dr_pessimistic(x: Weighed, shrinkage: float = CLIP) -> np.ndarray:
    """DR with the weights ``min(W, shrinkage)``: DRps. 0 is DM, infinity DR. Su et al. 2020, section 3.3."""
    return x.direct + (np.minimum(x.weight, shrinkage) * (x.reward - x.predicted)).sum(1)


def normalised(weight: np.ndarray, gain: np.ndarray, real: np.ndarray) -> np.ndarray:
    """float64 (R, K): contributions of each column's weighted mean, times the share of rows that have it.

    With m = sum(W g) / sum(W) and p = mean(real), the estimate is p m, and its linearisation
    ``real m + p W (g - m) / mean(W)``.
    """
    total = weight.sum(0)
    safe = np.where(total > 0, total, 1)
    mean = (weight * gain).sum(0) / safe
    return real * mean + real.sum(0) * weight * (gain - mean) / safe


ESTIMATORS: dict[str, Estimator] = {
    "ips": ips,
    "snips": snips,
    "clipped": clipped,
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": switch_dr,
    "dr_optimistic": dr_optimistic,
    "dr_pessimistic": dr_pessimistic,
}

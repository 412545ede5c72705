"""Estimators for sessions, where what was shown early changes who is still there later; S sessions, T steps.

``rho_t`` is the product of the steps' weights up to step t (of each, the whole slate's). A session that has
ended stays where it is: its weight stands still and it earns nothing, since how long people stay is a
consequence of the policy. Each function returns contributions, float64 (S,), as in ``estimators``.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from recloop.evaluation.off_policy.estimators import normalised
from recloop.evaluation.off_policy.log import Log


@dataclass(frozen=True)
class Sequences:
    """Sessions as rectangles, filled up with steps that weigh 1 and earn 0; float64.

    Attributes:
        reward: (S, T).
        ratio: (S, T), the target's probability of the step's slate to the logged one.
        q: (S, T), what a model expects from the step on, given what was shown.
        v: (S, T), what it expects of the target policy there: the mean of q over the target's slates.
        person: int64 (S,).
    """

    reward: np.ndarray
    ratio: np.ndarray
    q: np.ndarray
    v: np.ndarray
    person: np.ndarray

    @property
    def weight(self) -> np.ndarray:
        """(S, T): rho."""
        return self.ratio.cumprod(1)


def sessions(log: Log) -> Sequences:
    """The log's sessions; a row keeps its place within its session.

    q and v are a model's immediate reward: any pair with v the mean of q leaves the estimators unbiased,
    a pair that looks further ahead would leave them less noise.
    """
    _, place, count = np.unique(log.session, return_inverse=True, return_counts=True)
    order = np.argsort(place, kind="stable")
    starts = np.cumsum(count) - count
    step = np.empty(len(place), np.int64)
    step[order] = np.arange(len(place)) - np.repeat(starts, count)
    shape = (len(count), int(count.max(initial=0)))
    whole = np.where(log.real, log.ratio, 1).prod(1)
    columns = {
        "reward": (0.0, log.reward.sum(1)), "ratio": (1.0, whole),
        "q": (0.0, log.predicted.sum(1)), "v": (0.0, log.direct),
    }  # fmt: skip
    filled = {name: np.full(shape, fill) for name, (fill, _) in columns.items()}
    for name, (_, values) in columns.items():
        filled[name][place, step] = values
    return Sequences(**filled, person=log.person[order[starts]])


def pdis(x: Sequences, discount: float = 1.0) -> np.ndarray:
    """``mean(sum_t discount^t rho_t r_t)``: per-decision IPS. Precup, Sutton and Singh 2000, section 3.

    Unbiased if the log covers the target.
    """
    return (_discounts(x, discount) * x.weight * x.reward).sum(1)


def wpdis(x: Sequences, discount: float = 1.0) -> np.ndarray:
    """``sum_t discount^t sum_i rho_it r_it / sum_i rho_it``. Precup et al. 2000, section 3. Consistent."""
    return (_discounts(x, discount) * _weighted(x.weight, x.reward)).sum(1)


def dr_sequence(x: Sequences, discount: float = 1.0) -> np.ndarray:
    """``V_t = v_t + ratio_t (r_t + discount V_{t+1} - q_t)`` from the last step back.

    Jiang and Li 2016, "Doubly robust off-policy value evaluation for reinforcement learning", eq. 10.
    Unbiased if the log covers the target.
    """
    value = np.zeros(len(x.reward))
    for t in range(x.reward.shape[1] - 1, -1, -1):
        value = x.v[:, t] + x.ratio[:, t] * (x.reward[:, t] + discount * value - x.q[:, t])
    return value


def wdr(x: Sequences, discount: float = 1.0) -> np.ndarray:
    """``sum_t discount^t (w_t (r_t - q_t) + w_{t-1} v_t)``, w_t rho_t over its sum.

    Thomas and Brunskill 2016, "Data-efficient off-policy policy evaluation for reinforcement learning",
    eq. 5. Consistent.
    """
    before = np.hstack([np.ones((len(x.reward), 1)), x.weight[:, :-1]])
    gains = _weighted(x.weight, x.reward - x.q) + _weighted(before, x.v)
    return (_discounts(x, discount) * gains).sum(1)


SEQUENCE_ESTIMATORS: dict[str, Callable[[Sequences], np.ndarray]] = {
    "pdis": pdis,
    "wpdis": wpdis,
    "dr_sequence": dr_sequence,
    "wdr": wdr,
}


def _discounts(x: Sequences, discount: float) -> np.ndarray:
    return discount ** np.arange(x.reward.shape[1])


def _weighted(weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
    return normalised(weight, gain, np.ones(weight.shape))

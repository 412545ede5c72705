"""Estimators that use more of a slate's structure than the product of its conditional probabilities.

Reward interaction IPS (McInerney et al. 2020) is the weighting ``prefix`` of ``Log``. Those here need
marginals (how likely an item is at a position, whatever stands above), which a log of conditional
propensities does not hold: they are counted over slates that the policy draws (``marginals``), or published
with the log (Open Bandit). Each gives weights; ``estimators`` do the rest.
"""

import numpy as np


def marginals(slates: np.ndarray, n_items: int) -> np.ndarray:
    """float64 (K, N): how often int64 (M, K) slates of one context have item a at position j.

    Over slates drawn by a policy this estimates its marginals, with error below 0.5 / sqrt(M) each; over
    all its slates, weighted, it would be exact (``weights`` of ``second_moments``).
    """
    length = slates.shape[1]
    counts = np.zeros((length, n_items + 1))
    for j in range(length):
        counts[j] = np.bincount(slates[:, j], minlength=n_items + 1)
    return counts[:, :n_items] / len(slates)


def independent_weights(target: np.ndarray, logged: np.ndarray, slates: np.ndarray) -> np.ndarray:
    """float64 (R, K): ``w_j = p_target(a_j at j) / p_logged(a_j at j)`` for int64 (R, K) slates.

    Item-position IPS (Li et al. 2018, "Offline evaluation of ranking policies with click models", section
    5.2), also independent IPS. Marginals are float (K, N), of one context, or (R, K, N). Exact if a
    position's reward depends on its own item alone. It holds for every logging policy with marginals above 0.
    """
    return _at(target, slates) / _at(logged, slates)


def additive_weights(target: np.ndarray, logged: np.ndarray, slates: np.ndarray) -> np.ndarray:
    """float64 (R,): ``sum_j w_j - K + 1``, the pseudo-inverse weights of a slate's whole reward.

    Swaminathan et al. 2017, "Off-policy evaluation for slate recommendation", example 4: closed form of
    ``pseudo_inverse_weights`` where the logging policy draws positions independently of each other.
    Exact if the slate's reward is a sum of unknown terms, each of one item at its position.
    """
    return independent_weights(target, logged, slates).sum(1) - slates.shape[1] + 1


def second_moments(slates: np.ndarray, n_items: int, chances: np.ndarray | None = None) -> np.ndarray:
    """float64 (K N, K N): ``E[1_s 1_s^T]`` with 1_s the slate's indicator of (position, item).

    Exact for all slates of a policy with their ``chances`` float (M,); an estimate for M slates drawn.
    """
    indicators = _indicators(slates, n_items)
    share = np.full(len(slates), 1 / len(slates)) if chances is None else chances
    return (indicators * share[:, None]).T @ indicators


def pseudo_inverse_weights(
    target: np.ndarray, moments: np.ndarray, slates: np.ndarray, tolerance: float = 1e-9
) -> np.ndarray:
    """float64 (R,): ``q^T G^+ 1_s`` for int64 (R, K) slates of one context.

    Swaminathan et al. 2017, eq. 4: ``target`` float (K, N) is q, the target's marginals; ``moments`` is G,
    the logging policy's ``second_moments``. Exact if the slate's reward is additive, as above, and the
    target's slates are among those that can be logged. It holds for any logging policy, Plackett-Luce
    without replacement as well, as far as G is exact; G from drawn slates leaves a bias of the order of
    their number's inverse.

    Raises:
        ValueError: the target shows an item at a position where the log never does.
    """
    q = target.ravel()
    never = (q > tolerance) & (np.diag(moments) <= tolerance)
    if never.any():
        raise ValueError(
            f"no overlap: {int(never.sum())} (position, item) pairs of the target are never logged"
        )
    solved = np.linalg.pinv(moments, rcond=tolerance, hermitian=True) @ q
    return _indicators(slates, target.shape[1]) @ solved


def _at(marginal: np.ndarray, slates: np.ndarray) -> np.ndarray:
    places = np.arange(slates.shape[1])
    if marginal.ndim == 2:
        return marginal[places, slates]
    return marginal[np.arange(len(slates))[:, None], places, slates]


def _indicators(slates: np.ndarray, n_items: int) -> np.ndarray:
    rows, length = slates.shape
    indicators = np.zeros((rows, length, n_items))
    indicators[np.arange(rows)[:, None], np.arange(length), slates] = 1
    return indicators.reshape(rows, length * n_items)

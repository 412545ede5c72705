"""Env steps per second that the arithmetic alone would allow on one thread."""

import time

import torch

from benchmarks.trainees.world import PARAMS, shape
from recloop.settings.params import AgentParams

Product = tuple[int, int, int]  # (m, k) @ (k, n): 2 m k n floating-point operations
BACKWARD = 2.0  # forwards that a backward pass costs: gradients by the weights and by what came in
TRIALS = 200


def arithmetic_limit(chosen: AgentParams) -> float:
    """The least number of operations per env step, at the rate at which matrices of these shapes multiply.

    Only matrix products count. A value method's loss needs the scores of one item, and only its choice of
    the next best all of them; the mean of the duelling network is an inner product with a mean vector.
    """
    users, rows = chosen.users_at_once, chosen.train_batch
    items, sizes = len(shape().features), chosen.network
    every, item = (sizes.dim, items), (sizes.dim, 1)
    parts: list[tuple[float, list[Product]]]
    if chosen.algorithm == "ppo":
        gradient = chosen.gradient
        per_rollout = gradient.epochs * (gradient.rollout * users // gradient.minibatch)
        learning = (1 + BACKWARD) * per_rollout / (gradient.rollout * users)
        parts = [(1 / users, _tower(users, every)), (learning, _tower(gradient.minibatch, every))]
    else:
        due = chosen.value.updates_per_step / users
        parts = [
            (1 / users, _tower(users, every)),
            (due * (1 + BACKWARD), _tower(rows, item)),
            (due, _tower(rows, every)),
            (due, _tower(rows, item)),
        ]
    seconds = sum(times * _seconds(products) for times, products in parts)
    return 1 / seconds


def _tower(rows: int, scored: tuple[int, int]) -> list[Product]:
    sizes, (items, features) = PARAMS.agent.network, shape().features.shape
    width = shape().profile + shape().context + 2 * sizes.dim
    found = [(rows, width, sizes.hidden), (rows, sizes.hidden, sizes.hidden)]
    found += [(rows, sizes.hidden, sizes.dim), (rows, sizes.hidden, 1), (rows, *scored)]
    return [*found, (items, features, sizes.dim)]


def _seconds(products: list[Product]) -> float:
    """Operations of all products at the best rate seen for each shape."""
    return sum(2 * m * k * n / _rate(m, k, n) for m, k, n in products)


def _rate(m: int, k: int, n: int) -> float:
    """Operations per second of (m, k) @ (k, n): the best of many trials."""
    left, right, out = torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)
    best = float("inf")
    for _ in range(TRIALS):
        began = time.perf_counter()
        torch.mm(left, right, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * m * k * n / best

"""Catalogues of 100, 5,000 and 100,000 items: all that is meant to work there does, in bounded memory."""

import numpy as np
import pytest
import torch

from benchmarks.scale import CONTEXT, HISTORY, PROFILE, Live, market, peak, shape_of
from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.log import LoggedRows
from recloop.agents.tables import TableError
from recloop.agents.train import greedy_return
from recloop.features import Steps
from tests.agents.mazes import agent

SMALL_ONLY = ("q_learning", "lin_ucb", "thompson")  # numbers per item, squared
MB = 10**6


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster():
        yield


def log(items: int, count: int = 500) -> LoggedRows:
    rng = np.random.default_rng(0)
    person = np.arange(count) // 5
    return LoggedRows.of(
        Steps(
            user=person, session=person, ts=np.arange(count), clicked=rng.integers(-1, 3, count),
            profile=rng.normal(size=(count, PROFILE)).astype(np.float32), done=np.arange(count) % 5 == 4,
            context=rng.normal(size=(count, CONTEXT)).astype(np.float32),
            slate=rng.integers(items, size=(count, 3)),
            history=rng.integers(items + 1, size=(count, HISTORY)), propensity=np.full((count, 3), np.nan),
            position=np.tile(np.arange(3), (count, 1)), reward=rng.random(count).astype(np.float32),
        ),
        items, 0.9,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("items", [100, 5000, 100_000])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_it_learns_at_this_size_or_says_why_not(name, items):
    """At most 12 numbers of every kind that is kept per item, and 150 MB that do not grow with them."""
    chosen = agent(
        name, slate=3, network={"dim": 8, "full_catalogue": 10_000, "candidates": 256}, train_batch=128,
        gradient={"rollout": 4},
    )  # fmt: skip
    model = market(items)

    def opened():
        return build(chosen, 1, shape_of(model), lambda: model, log(items))

    if items > 10_000 and name in SMALL_ONLY:
        with pytest.raises(TableError, match=r"choose (an algorithm with a network|logistic)"):
            opened()
        return
    algorithm = opened()
    kept = sum(x.numel() for x in algorithm.network().state_dict().values())
    losses = []

    def some() -> None:
        for _ in range(3):
            algorithm.step()
            losses.append(algorithm.mean_loss())

    used = peak(some)
    assert np.isfinite(losses).any()
    assert not np.isinf(losses).any()
    assert used < 150 * MB + 12 * 4 * kept, used / MB
    network = algorithm.network()
    returns: list[float] = []
    looked = peak(lambda: returns.append(greedy_return(network, model, 3, 0, people=100)))
    assert np.isfinite(returns[0])
    assert looked < 150 * MB + 12 * 4 * kept, looked / MB
    algorithm.stop()


def test_live_tensors_are_counted_as_long_as_they_live():
    with Live() as live:
        one = torch.zeros(1000)
        two = one.view(10, 100) + 1
        del one
        three = torch.ones(500)
        assert live.now == 4 * 1500
        del two, three
    assert (live.now, live.peak) == (0, 4 * 2000)

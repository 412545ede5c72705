"""Learning where the market, the rows and the learner are on a GPU: answers that are known, as on the CPU."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.checkpoint import Progress, resume, save
from recloop.agents.cluster import cluster
from tests.agents.mazes import ACTIONS, SHAPE, STATES, Maze, agent, exact, learnt, of_policy, rows

GPU = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")


@pytest.fixture(scope="module", autouse=True)
def running():
    with cluster(workers=1):
        yield


def built(name: str, market: str, **changes: object):
    log = rows(np.full((STATES, ACTIONS), 1 / ACTIONS)) if ALGORITHMS[name].from_log else None
    chosen = agent(name, num_gpus_per_learner=1.0, **changes)
    return build(chosen, 1, SHAPE, partial(Maze, device=market), log)


@pytest.mark.parametrize("market", ["cpu", GPU])
@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_every_algorithm_learns_on_it_and_goes_on_from_a_checkpoint(
    name: str, market: str, tmp_path: Path
) -> None:
    algorithm, again = built(name, market), built(name, market)
    try:
        found = learnt(algorithm, 2000)
        assert np.isfinite(found).all()
        assert algorithm.device.type == GPU
        if not algorithm.from_log:
            assert algorithm.env_runner.observation["context"].device.type == market
        save(tmp_path, algorithm, Progress(algorithm.env_steps, 0.0, []))
        resume(tmp_path, again)
        np.testing.assert_allclose(learnt(again, 0), found, rtol=1e-6)
        again.step()
    finally:
        algorithm.stop(), again.stop()


@pytest.mark.parametrize(
    "changes", [{}, {"value": {"priority_exponent": 0.6}}], ids=["uniform", "prioritised"]
)
def test_values_come_within_a_twentieth_of_value_iteration(changes: dict) -> None:
    algorithm = built("dqn", GPU, **changes)
    try:
        found = learnt(algorithm)
    finally:
        algorithm.stop()
    np.testing.assert_allclose(found, exact(), atol=0.05 * np.ptp(exact()))


def test_a_policy_gradient_earns_nine_tenths_of_the_optimum() -> None:
    algorithm = built("ppo", GPU, learning_rate=0.005)
    try:
        found = learnt(algorithm)
    finally:
        algorithm.stop()
    policy = softmax(found, axis=1)
    assert (policy * of_policy(policy)).sum(1).mean() > 0.9 * exact().max(1).mean()

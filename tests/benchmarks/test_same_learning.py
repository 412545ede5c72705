"""Ours and RLlib's own take the same step: on one batch, the same loss and the same gradient.

Returns after training differ between seeds by a tenth and more, so that no affordable number of runs could
tell whether two implementations agree within a hundredth. Their gradients can be compared to rounding.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets
from torch import Tensor

from benchmarks.trainees.same import Peer
from benchmarks.trainees.world import agent, market, shape
from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.network import TwoTower

SEED, PEOPLE = 3, 64


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    torch.set_num_threads(1)
    with cluster():
        yield


def ours(name: str) -> tuple[MarketAlgorithm, Any]:
    algorithm = build(agent(name), SEED, shape(), market)
    learner = algorithm.learner_group._learner
    learner.notes = {}
    return algorithm, learner


def gradients(loss: Tensor, net: TwoTower) -> dict[str, Tensor]:
    net.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def agree(mine: tuple[Tensor, TwoTower], theirs: tuple[Tensor, TwoTower]) -> None:
    assert mine[0].item() == pytest.approx(theirs[0].item(), rel=1e-5)
    found, wanted = gradients(*mine), gradients(*theirs)
    assert found.keys() == wanted.keys()
    assert max(float(g.abs().max()) for g in wanted.values()) > 1e-3, "nothing would be learnt"
    for name, gradient in wanted.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_ppo_has_the_loss_and_the_gradient_of_rllib():
    algorithm, learner = ours("ppo")
    columns, peer = algorithm.collect(16, None), Peer(algorithm.agent, SEED)
    with torch.no_grad():  # so that ratios differ from 1, some beyond the clip
        for p in learner.plain.net.parameters():
            p += 0.1 * torch.randn_like(p)
    peer.begin(learner.plain)
    found = learner.plain._forward_train(columns)
    ratio = (found["log_probability"] - columns["log_probability"]).exp()
    assert ((ratio - 1).abs() > algorithm.agent.gradient.clip).float().mean() > 0.1
    agree((learner.loss(found, columns), learner.plain.net), (peer.loss(columns), peer.net))


def test_ppo_has_the_targets_of_rllib():
    algorithm, _ = ours("ppo")
    seen: dict[str, Tensor] = {}
    module = algorithm.env_runner.acting
    whole = module.to_columns
    module.to_columns = lambda rollout: seen.update(rollout) or whole(rollout)
    columns = algorithm.collect(16, None)
    with torch.no_grad():
        beyond = module.beyond(seen)
    assert seen["done"].any()
    cut = torch.arange(17) == 15  # the rollout's last request; a row more holds what is seen after it
    for person in range(PEOPLE):
        values = torch.cat([seen["value"][:, person], beyond[person, None]])
        reward, done = (
            torch.cat([seen[name][:, person].float(), torch.zeros(1)]) for name in ("reward", "done")
        )
        wanted = compute_value_targets(
            values.numpy(), reward.numpy(), done.numpy(), cut.numpy(), algorithm.agent.gamma,
            algorithm.agent.gradient.gae_lambda,
        )  # fmt: skip
        mine = columns["target"].view(16, -1)[:, person]
        torch.testing.assert_close(mine, torch.as_tensor(wanted[:-1]), rtol=1e-4, atol=1e-4)


def test_dqn_has_the_loss_and_the_gradient_of_rllib():
    algorithm, learner = ours("dqn")
    columns, peer = algorithm.collect(16, None), Peer(algorithm.agent, SEED)
    with torch.no_grad():
        for p in [*learner.plain.net.parameters(), *learner.plain.target.parameters()]:
            p += 0.1 * torch.randn_like(p)
    peer.begin(learner.plain)
    mine = learner.loss(learner.plain._forward_train(columns), columns)
    agree((mine, learner.plain.net), (peer.loss(columns), peer.net))


@pytest.mark.parametrize("name", ["ppo", "dqn"])
def test_steps_on_the_same_experience_lead_to_the_same_weights(name):
    algorithm, learner = ours(name)
    peer = Peer(algorithm.agent, SEED)
    peer.follow(learner)
    before = learner.plain.net.state_dict()["item_bias"].clone()
    steps = 0
    while steps < 32:  # of PPO two rollouts; of DQN before its first renewal of the target
        algorithm.step()
        steps = learner.updates
    moved = (learner.plain.net.state_dict()["item_bias"] - before).abs().max()
    assert moved > 1e-3
    for name, values in learner.plain.net.named_parameters():
        theirs = peer.net.get_parameter(name)
        torch.testing.assert_close(values, theirs, rtol=1e-3, atol=1e-2 * float(moved), msg=name)

"""Ours and RLlib's own take the same step: on one batch, the same loss and the same gradient.

Returns after training differ between seeds by a tenth and more, so that no affordable number of runs could
tell whether two implementations agree within a hundredth. Their gradients can be compared to rounding.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns as Names
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.rllib.utils.postprocessing.value_predictions import compute_value_targets
from ray.tune.registry import register_env
from torch import Tensor

from benchmarks.trainees.rllib import _dqn, _ppo
from benchmarks.trainees.world import Flat, agent, market, shape
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


def stock(name: str, algorithm: MarketAlgorithm) -> Any:
    """RLlib's learner."""
    config, module, _ = {"ppo": _ppo, "dqn": _dqn}[name](algorithm.agent, 16, 1)
    register_env("flat", Flat)
    config.environment("flat").env_runners(num_env_runners=0, num_envs_per_env_runner=1)
    config.training(gamma=algorithm.agent.gamma).debugging(seed=SEED, log_level="ERROR")
    config.rl_module(rl_module_spec=ray.rllib.core.rl_module.RLModuleSpec(module_class=module))
    return config.build_algo().learner_group._learner


def vector(columns: dict[str, Tensor], before: str = "") -> Tensor:
    parts = (columns[before + name].float() for name in ("profile", "context", "history"))
    return torch.cat(list(parts), 1)


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
    columns, peer = algorithm.collect(16, None), stock("ppo", algorithm)
    net = peer.module[DEFAULT_MODULE_ID].tower.net
    with torch.no_grad():  # so that ratios differ from 1, some beyond the clip
        for p in learner.plain.net.parameters():
            p += 0.1 * torch.randn_like(p)
    net.load_state_dict(learner.plain.net.state_dict())
    batch = {
        Names.OBS: vector(columns), Names.ACTIONS: columns["slate"][:, 0],
        Names.ACTION_LOGP: columns["log_probability"], Postprocessing.ADVANTAGES: columns["advantage"],
        Postprocessing.VALUE_TARGETS: columns["target"],
        Names.ACTION_DIST_INPUTS: torch.zeros(len(columns["slate"]), learner.plain.n_items),
    }  # fmt: skip
    forward = peer.module[DEFAULT_MODULE_ID]._forward_train(batch)
    theirs = peer.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=peer.config, batch=batch, fwd_out=forward
    )
    found = learner.plain._forward_train(columns)
    ratio = (found["log_probability"] - columns["log_probability"]).exp()
    assert ((ratio - 1).abs() > algorithm.agent.gradient.clip).float().mean() > 0.1
    agree((learner.loss(found, columns), learner.plain.net), (theirs, net))


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
    columns, peer = algorithm.collect(16, None), stock("dqn", algorithm)
    module = peer.module[DEFAULT_MODULE_ID]
    with torch.no_grad():
        for p in [*learner.plain.net.parameters(), *learner.plain.target.parameters()]:
            p += 0.1 * torch.randn_like(p)
    module.tower.net.load_state_dict(learner.plain.net.state_dict())
    module.late.net.load_state_dict(learner.plain.target.state_dict())
    batch = {
        Names.OBS: vector(columns), Names.NEXT_OBS: vector(columns, "next_"), Names.ACTIONS: columns["item"],
        Names.REWARDS: columns["reward"], Names.TERMINATEDS: columns["discount"] == 0,
        "n_step": torch.ones(len(columns["item"])), "weights": torch.ones(len(columns["item"])),
    }  # fmt: skip
    theirs = peer.compute_loss_for_module(
        module_id=DEFAULT_MODULE_ID, config=peer.config, batch=batch, fwd_out=module._forward_train(batch)
    )
    mine = learner.loss(learner.plain._forward_train(columns), columns)
    agree((mine, learner.plain.net), (theirs, module.tower.net))

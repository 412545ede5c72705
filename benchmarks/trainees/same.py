"""RLlib's own learner on the experience of ours: the same weights at first, then the same rows in order."""

from typing import Any

import ray
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns as Names
from ray.rllib.evaluation.postprocessing import Postprocessing
from ray.tune.registry import register_env
from torch import Tensor

from benchmarks.trainees.rllib import rllib_dqn, rllib_ppo
from benchmarks.trainees.world import Flat
from recloop.agents.network import Columns, TwoTower
from recloop.settings.params import AgentParams


class Peer:
    """RLlib's learner for PPO or DQN.

    Attributes:
        learner: RLlib's.
        net: the network that it learns.
    """

    def __init__(self, chosen: AgentParams, seed: int) -> None:
        config, module, _ = {"ppo": rllib_ppo, "dqn": rllib_dqn}[chosen.algorithm](chosen, 16, 1)
        register_env("flat", Flat)
        config.environment("flat").env_runners(num_env_runners=0, num_envs_per_env_runner=1)
        config.training(
            gamma=chosen.gamma, lr=chosen.learning_rate, grad_clip=10.0, grad_clip_by="global_norm"
        )
        config.debugging(seed=seed, log_level="ERROR")
        config.rl_module(rl_module_spec=ray.rllib.core.rl_module.RLModuleSpec(module_class=module))
        self._algorithm, self._chosen, self._updates = config.build_algo(), chosen, 0
        self.learner: Any = self._algorithm.learner_group._learner
        self._module = self.learner.module[DEFAULT_MODULE_ID]
        self.net: TwoTower = self._module.tower.net

    def begin(self, plain: Any) -> None:
        """Take the weights of our learner's module."""
        self.net.load_state_dict(plain.net.state_dict())
        if self._chosen.algorithm == "dqn":
            self._module.late.net.load_state_dict(plain.target.state_dict())

    def loss(self, columns: Columns) -> Tensor:
        """The scalar that RLlib minimises on these rows of ours."""
        batch = (self._ppo_batch if self._chosen.algorithm == "ppo" else _dqn_batch)(columns)
        return self.learner.compute_loss_for_module(
            module_id=DEFAULT_MODULE_ID, config=self.learner.config, batch=batch,
            fwd_out=self._module._forward_train(batch),
        )  # fmt: skip

    def learn(self, columns: Columns) -> None:
        """One step of RLlib's on these rows of ours; the target network follows when ours does."""
        found = self.learner.compute_gradients({DEFAULT_MODULE_ID: self.loss(columns)})
        self.learner.apply_gradients(self.learner.postprocess_gradients(found))
        self._updates += 1
        if self._chosen.algorithm == "dqn" and self._updates % self._chosen.value.target_update_every == 0:
            self._module.late.load_state_dict(self._module.tower.state_dict())

    def follow(self, learner: Any) -> None:
        """Learn from now on whatever ``learner``, one of ours, learns."""
        self.begin(learner.plain)
        own = learner.learn

        def both(rows: Columns) -> dict[str, Tensor]:
            found = own(rows)
            self.learn(rows)
            return found

        learner.learn = both

    def close(self) -> None:
        """Let go of RLlib's algorithm."""
        self._algorithm.stop()

    def _ppo_batch(self, columns: Columns) -> dict[str, Tensor]:
        rows, items = len(columns["slate"]), self.net.count
        return {
            Names.OBS: vector(columns), Names.ACTIONS: columns["slate"][:, 0],
            Names.ACTION_LOGP: columns["log_probability"],
            Postprocessing.ADVANTAGES: columns["advantage"],
            Postprocessing.VALUE_TARGETS: columns["target"],
            Names.ACTION_DIST_INPUTS: torch.zeros(rows, items),
        }  # fmt: skip


def _dqn_batch(columns: Columns) -> dict[str, Tensor]:
    ones = torch.ones(len(columns["item"]))
    return {
        Names.OBS: vector(columns), Names.NEXT_OBS: vector(columns, "next_"),
        Names.ACTIONS: columns["item"], Names.REWARDS: columns["reward"],
        Names.TERMINATEDS: columns["discount"] == 0, "n_step": ones, "weights": ones,
    }  # fmt: skip


def vector(columns: Columns, before: str = "") -> Tensor:
    """float32 (B, P + C + H): an observation as RLlib's modules see it."""
    parts = (columns[before + name].float() for name in ("profile", "context", "history"))
    return torch.cat(list(parts), 1)

"""Double DQN with a duelling network, experience replay and a target network, on RLlib.

For a transition (s, a, r, s'), the target is (van Hasselt, Guez and Silver 2016, "Deep reinforcement
learning with double Q-learning", eq. 4)

    y = r + gamma * Q'(s', argmax_i Q(s', i)),     y = r where the person left,

with Q' the target network (Mnih et al. 2015, "Human-level control through deep reinforcement
learning"), a copy of Q that is renewed every ``target_update_every`` gradient updates. The loss is
Huber's between Q(s, a) and y. One action is one item shown alone; slates are drawn by Q when serving.
"""

from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_OPTIMIZER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.core.learner.utils import update_target_network
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import WEIGHTS_SEQ_NO
from torch import Tensor
from torch.nn import functional

from recloop.agents.replay import Replay


class MarketDQNConfig(DQNConfig):
    """RLlib's DQN configuration, with the schedule of epsilon and the steps between updates."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or MarketDQN)
        self.total_steps = 1
        self.epsilon_range = (1.0, 0.05)
        self.epsilon_decay_share = 0.5
        self.updates_per_step = 1
        self.target_update_every = 100
        self.replay_capacity = 1
        self.steps_per_sample = 4

    def get_default_learner_class(self) -> type:
        """The learner of the loss above."""
        return DQNLearner


class DQNLearner(TorchLearner):
    """Minimises the loss of the module's docstring."""

    def build(self) -> None:
        """Make the target network."""
        super().build()
        self.updates = 0
        self.module.foreach_module(lambda _, module: module.make_target_networks())

    def compute_loss_for_module(
        self, *, module_id: str, config: Any, batch: dict[str, Tensor], fwd_out: dict[str, Tensor]
    ) -> Tensor:
        """Mean Huber loss of a batch."""
        module = self.module[module_id].unwrapped()
        with torch.no_grad():
            best = fwd_out["next_q"].argmax(1, keepdim=True)
            following = module.forward_target(batch)["q"].gather(1, best)[:, 0]
            target = batch["reward"] + config.gamma * following * (~batch["done"])
        expected = fwd_out["q"].gather(1, batch["action"][:, None])[:, 0]
        return functional.smooth_l1_loss(expected, target)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        """Renew the target network when it is due."""
        super().after_gradient_based_update(timesteps=timesteps)
        self.updates += 1
        if self.updates % self.config.target_update_every == 0:
            for _, module in self.module._rl_modules.items():
                for main, target in module.unwrapped().get_target_network_pairs():
                    update_target_network(main_net=main, target_net=target, tau=1.0)


class MarketDQN(DQN):
    """RLlib's DQN over columns: sample, remember, update, hand the weights on."""

    def setup(self, config: Any) -> None:
        """Build RLlib's parts and an empty memory."""
        super().setup(config)
        self.replay = Replay(self.config.replay_capacity, self.config.seed or 0)
        self.env_steps = 0
        self._losses: list[float] = []

    @property
    def epsilon(self) -> float:
        """The exploration's share now: linear from the first to the last value, then constant."""
        first, last = self.config.epsilon_range
        falling = max(1.0, self.config.epsilon_decay_share * self.config.total_steps)
        return first + (last - first) * min(1.0, self.env_steps / falling)

    def training_step(self) -> None:
        """One round: every runner steps its people, then the learner takes its updates."""
        ask = {"steps": self.config.steps_per_sample, "epsilon": self.epsilon}
        if self.config.num_env_runners:
            parts = self.env_runner_group.foreach_env_runner("sample", kwargs=ask, local_env_runner=False)
        else:
            parts = [self.env_runner.sample(**ask)]
        for columns in parts:
            self.replay.add(columns)
            self.env_steps += len(columns["action"])
        size = self.config.total_train_batch_size
        if self.replay.size < size:
            return
        for _ in range(self.config.steps_per_sample * self.config.updates_per_step * max(1, len(parts))):
            batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(self.replay.sample(size))}, size)
            results = self.learner_group.update(batch=batch, timesteps={})
            self._losses.append(_loss(results))
        self._hand_on()

    def _hand_on(self) -> None:
        """Give the runners the learner's weights."""
        self.env_runner_group.sync_weights(
            from_worker_or_learner_group=self.learner_group, inference_only=True
        )

    def finished(self) -> tuple[Tensor, Tensor]:
        """Returns and lengths of the sessions that ended since the last call."""
        if not self.config.num_env_runners:
            return self.env_runner.finished()
        parts = self.env_runner_group.foreach_env_runner("finished", local_env_runner=False)
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def mean_loss(self) -> float:
        """Mean loss of the updates since the last call; NaN without any."""
        losses, self._losses = self._losses, []
        return float(np.mean(losses)) if losses else float("nan")

    def learning_state(self) -> dict[str, Any]:
        """Networks, optimiser, memory and the count of steps, as arrays, numbers and strings."""
        learner = self.learner_group.get_state()[COMPONENT_LEARNER]
        kept = {name: learner[name] for name in (COMPONENT_RL_MODULE, COMPONENT_OPTIMIZER, WEIGHTS_SEQ_NO)}
        return {"learner": kept, "replay": self.replay.get_state(), "env_steps": self.env_steps}

    def set_learning_state(self, state: dict[str, Any]) -> None:
        """Go on from what ``learning_state`` gave."""
        self.learner_group.set_state({COMPONENT_LEARNER: state["learner"]})
        self.replay.set_state(state["replay"])
        self.env_steps = state["env_steps"]
        self._hand_on()

    def network(self) -> torch.nn.Module:
        """The learnt network, on the CPU."""
        state = self.learner_group.get_weights()[DEFAULT_MODULE_ID]
        module = self.env_runner.module[DEFAULT_MODULE_ID]
        module.set_state(state)
        return module.q_net


def _loss(results: Any) -> float:
    """Mean loss of an update over its learners."""
    return float(np.mean([one[DEFAULT_MODULE_ID]["total_loss"].peek() for one in results]))

"""RLlib's own PPO and DQN, with our network as their RLModule."""

from typing import Any

import ray
import torch
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.dqn.default_dqn_rl_module import QF_PREDS
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module import RLModuleSpec
from ray.rllib.core.rl_module.apis import ValueFunctionAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from ray.rllib.utils.schedules.scheduler import Scheduler
from ray.tune.registry import register_env
from torch import Tensor

from benchmarks.trainees.world import Flat, FlatVector, TowerOfVectors, Trainee
from recloop.agents.network import TwoTower
from recloop.agents.replay import FIRST_CORRECTION
from recloop.settings.params import AgentParams

SCALAR = 128  # people of all runners together, stepped one by one
PADDED = 1.17  # rows of RLlib's PPO per request: it adds one at each end of a session or a rollout
ROUND = 1.83  # requests per person in a round of RLlib's DQN: those who left miss a step, so it takes two


class PPOTower(TorchRLModule, ValueFunctionAPI):
    """Actor and critic."""

    def setup(self) -> None:
        self.tower = TowerOfVectors()

    def _forward(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state = self.tower.state(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.tower.net.scores(state)}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state = self.tower.state(batch[Columns.OBS])
        return {Columns.ACTION_DIST_INPUTS: self.tower.net.scores(state), Columns.EMBEDDINGS: state}

    def compute_values(self, batch: dict[str, Any], embeddings: Any = None) -> Tensor:
        state = self.tower.state(batch[Columns.OBS]) if embeddings is None else embeddings
        return self.tower.net.value(state)


class DQNTower(DefaultDQNTorchRLModule):
    """Q and its target; acting and learning are RLlib's."""

    def setup(self) -> None:
        self.uses_dueling = self.uses_double_q = True
        self.num_atoms = 1
        self.epsilon_schedule = Scheduler(self.model_config["epsilon"], framework=self.framework)
        self.tower = TowerOfVectors()

    def get_non_inference_attributes(self) -> list[str]:
        return ["late"]

    def get_initial_state(self) -> dict[str, Any]:
        return {}

    def make_target_networks(self) -> None:
        self.late = make_target_network(self.tower)

    def get_target_network_pairs(self) -> list[tuple[Any, Any]]:
        return [(self.tower, self.late)]

    def compute_q_values(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {QF_PREDS: self.tower.q(batch[Columns.OBS])}

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {QF_PREDS: self.late.q(batch[Columns.OBS])}


def stock(chosen: AgentParams, seed: int, runners: int = 1, vectorised: bool = False) -> Trainee:
    """With one runner within this process, or two of their own; over one vectorised market or scalar ones."""
    people = 2 * SCALAR if vectorised else SCALAR // runners
    config, module, people = (rllib_ppo if chosen.algorithm == "ppo" else rllib_dqn)(chosen, people, runners)
    register_env("flat", Flat)
    register_env("flat vector", lambda context: FlatVector(context["num_envs"]))
    config.environment("flat vector" if vectorised else "flat")
    config.env_runners(
        num_env_runners=0 if runners == 1 else runners, num_envs_per_env_runner=people,
        gym_env_vectorize_mode="vector_entry_point" if vectorised else "sync",
    )  # fmt: skip
    config.training(lr=chosen.learning_rate, gamma=chosen.gamma, grad_clip=10.0, grad_clip_by="global_norm")
    config.rl_module(rl_module_spec=RLModuleSpec(module_class=module))
    config.reporting(min_time_s_per_iteration=None, min_train_timesteps_per_iteration=None)
    config.debugging(seed=seed, log_level="ERROR")
    torch.manual_seed(seed)
    algorithm = config.build_algo()

    goal = 0

    def run(steps: int) -> None:
        nonlocal goal
        goal += steps  # of all runs: what one does beyond it the next need not
        while algorithm.metrics.peek(LIFETIME, default=0) < goal:
            algorithm.train()

    def network() -> TwoTower:
        found = TowerOfVectors()
        weights = algorithm.learner_group.get_weights()[DEFAULT_MODULE_ID]
        mine = {k: torch.as_tensor(x) for k, x in weights.items() if k.startswith("tower.")}
        found.load_state_dict({k.removeprefix("tower."): x for k, x in mine.items()})
        return found.net

    how = "vectorised market" if vectorised else f"{runners} env runner{'s' * (runners > 1)}"
    return Trainee(f"RLlib {ray.__version__}, {how}", run, network, algorithm.stop)


LIFETIME = ("env_runners", "num_env_steps_sampled_lifetime")


def rllib_ppo(chosen: AgentParams, people: int, runners: int) -> tuple[AlgorithmConfig, type, int]:
    """Minibatches are larger by what is padded: as many updates, each on as many requests."""
    gradient = chosen.gradient
    batch = gradient.rollout * chosen.users_at_once
    config = PPOConfig().training(
        train_batch_size_per_learner=batch, num_epochs=gradient.epochs,
        minibatch_size=round(PADDED * gradient.minibatch),
        lambda_=gradient.gae_lambda, clip_param=gradient.clip, entropy_coeff=gradient.entropy,
        vf_loss_coeff=gradient.value_share, vf_clip_param=float("inf"), use_kl_loss=False,
    )  # fmt: skip
    return config, PPOTower, people


def rllib_dqn(chosen: AgentParams, people: int, runners: int) -> tuple[AlgorithmConfig, type, int]:
    """``training_intensity`` is such that RLlib's round holds the updates due for its requests."""
    value, users = chosen.value, chosen.users_at_once
    updates = people * runners * value.updates_per_step / users
    people = round(people / ROUND)
    counted = people * (1 if runners == 1 else runners + 1)  # RLlib counts one runner too many
    kind, more = "EpisodeReplayBuffer", {}
    if value.priority_exponent:
        kind = "PrioritizedEpisodeReplayBuffer"
        more = {"alpha": value.priority_exponent, "beta": FIRST_CORRECTION}
    falling = round(value.epsilon_decay_share * chosen.env_steps)
    config = DQNConfig().training(
        train_batch_size_per_learner=chosen.train_batch, n_step=value.n_step, num_atoms=1,
        training_intensity=updates * chosen.train_batch / counted, double_q=True, dueling=True,
        replay_buffer_config={"type": kind, "capacity": value.replay_capacity} | more,
        num_steps_sampled_before_learning_starts=chosen.train_batch,
        target_network_update_freq=value.target_update_every * users // value.updates_per_step,
        epsilon=[[0, value.epsilon_start], [falling, value.epsilon_end]],
    )  # fmt: skip
    return config.reporting(min_sample_timesteps_per_iteration=512), DQNTower, people

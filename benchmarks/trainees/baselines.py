"""stable-baselines3's PPO and DQN, with our network as their policy; its DQN is made double, as ours is."""

from typing import Any

import numpy as np
import stable_baselines3
import torch
from gymnasium import Env
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv
from stable_baselines3.dqn.policies import DQNPolicy
from torch import Tensor
from torch.nn import functional

from benchmarks.trainees.rllib import SCALAR
from benchmarks.trainees.world import Flat, TowerOfVectors, Trainee, market, rows, single_spaces
from recloop.settings.params import AgentParams


class MarketVecEnv(VecEnv):
    """The batched market: who left is replaced within the step."""

    def __init__(self, people: int) -> None:
        self.world = market()
        super().__init__(people, *single_spaces())

    def reset(self) -> np.ndarray:
        return rows(self.world.reset(self.num_envs))

    def step_async(self, actions: np.ndarray) -> None:
        self.actions = torch.as_tensor(actions.astype(np.int64))[:, None]

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        outcome = self.world.step(self.actions)
        seen, infos = rows(self.world.observe()), [{} for _ in range(self.num_envs)]
        if outcome.done.any():
            for i in outcome.done.nonzero()[:, 0].tolist():
                infos[i]["terminal_observation"] = seen[i]
            self.world.arrive(outcome.done)
            seen = rows(self.world.observe())
        return seen, outcome.reward.numpy(), outcome.done.numpy(), infos

    def seed(self, seed: int | None = None) -> list[None]:
        if seed is not None:
            self.world.seed(seed)
        return [None] * self.num_envs

    def close(self) -> None:
        """Nothing is open."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [None] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """No environment has attributes of its own."""

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [None] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[Env], indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


class PPOPolicy(ActorCriticPolicy):
    """Actor and critic."""

    def _build(self, lr_schedule: Any) -> None:
        self.tower = TowerOfVectors()
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _both(self, obs: Tensor) -> tuple[Any, Tensor]:
        state = self.tower.state(obs)
        logits = self.tower.net.scores(state)
        return self.action_dist.proba_distribution(logits), self.tower.net.value(state)[:, None]

    def forward(self, obs: Tensor, deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        choice, value = self._both(obs)
        actions = choice.get_actions(deterministic=deterministic)
        return actions, value, choice.log_prob(actions)

    def evaluate_actions(self, obs: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        choice, value = self._both(obs)
        return value, choice.log_prob(actions), choice.entropy()

    def predict_values(self, obs: Tensor) -> Tensor:
        return self._both(obs)[1]


class TowerQ(BasePolicy):
    """Q."""

    def __init__(self, observation_space: Any, action_space: Any) -> None:
        super().__init__(observation_space, action_space)
        self.tower = TowerOfVectors()

    def forward(self, obs: Tensor) -> Tensor:
        return self.tower.q(obs)

    def _predict(self, observation: Any, deterministic: bool = True) -> Tensor:
        return self(observation).argmax(1)


class QPolicy(DQNPolicy):
    """Epsilon-greedy, as stable-baselines3 does it."""

    def make_q_net(self) -> Any:
        return TowerQ(self.observation_space, self.action_space)


class DoubleDQN(stable_baselines3.DQN):
    """With the target of van Hasselt, Guez and Silver 2016, arXiv 1509.06461, eq. 4."""

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        self.policy.set_training_mode(True)
        for _ in range(gradient_steps):
            drawn = self.replay_buffer.sample(batch_size)
            with torch.no_grad():
                best = self.q_net(drawn.next_observations).argmax(1, keepdim=True)
                beyond = self.q_net_target(drawn.next_observations).gather(1, best)
                wanted = drawn.rewards + (1 - drawn.dones) * self.gamma * beyond
            q = self.q_net(drawn.observations).gather(1, drawn.actions.long())
            loss = functional.smooth_l1_loss(q, wanted)
            self.policy.optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
        self._n_updates += gradient_steps


def baselines(chosen: AgentParams, seed: int, vectorised: bool = False) -> Trainee:
    """Over the vectorised market, or people who are stepped one by one."""
    people = chosen.users_at_once if vectorised else SCALAR
    envs = MarketVecEnv(people) if vectorised else DummyVecEnv([Flat] * people)
    envs.seed(seed)
    common: dict[str, Any] = {
        "learning_rate": chosen.learning_rate, "gamma": chosen.gamma, "max_grad_norm": 10.0, "seed": seed,
        "policy_kwargs": {"optimizer_kwargs": {"fused": True}}, "device": "cpu",
    }  # fmt: skip
    model = (_ppo if chosen.algorithm == "ppo" else _dqn)(chosen, envs, common)
    tower = model.policy.tower if chosen.algorithm == "ppo" else model.policy.q_net.tower

    def run(steps: int) -> None:
        model.learn(steps, reset_num_timesteps=False)

    how = "vectorised market" if vectorised else f"{people} scalar envs"
    return Trainee(f"stable-baselines3 {stable_baselines3.__version__}, {how}", run, lambda: tower.net)


def _ppo(chosen: AgentParams, envs: VecEnv, common: dict[str, Any]) -> Any:
    gradient = chosen.gradient
    return stable_baselines3.PPO(
        PPOPolicy, envs, n_steps=gradient.rollout * chosen.users_at_once // envs.num_envs,
        batch_size=gradient.minibatch, n_epochs=gradient.epochs, gae_lambda=gradient.gae_lambda,
        clip_range=gradient.clip, ent_coef=gradient.entropy, vf_coef=gradient.value_share, **common,
    )  # fmt: skip


def _dqn(chosen: AgentParams, envs: VecEnv, common: dict[str, Any]) -> Any:
    """An update is due for every so many requests; the target follows by requests too."""
    value = chosen.value
    due = chosen.users_at_once // value.updates_per_step
    model = DoubleDQN(
        QPolicy, envs, batch_size=chosen.train_batch, train_freq=max(1, due // envs.num_envs),
        gradient_steps=max(1, envs.num_envs // due), learning_starts=chosen.train_batch,
        buffer_size=value.replay_capacity, target_update_interval=value.target_update_every * due,
        exploration_initial_eps=value.epsilon_start, exploration_final_eps=value.epsilon_end, **common,
    )  # fmt: skip
    falling = value.epsilon_decay_share * chosen.env_steps

    def epsilon(_: float) -> float:
        done = min(1.0, model.num_timesteps / falling)
        return value.epsilon_start + (value.epsilon_end - value.epsilon_start) * done

    model.exploration_schedule = epsilon
    return model

"""From parameters to an RLlib algorithm that is ready to train."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import ray
import torch
from gymnasium import spaces
from ray.rllib.core.rl_module import RLModuleSpec

from recloop.agents.dqn import MarketDQN, MarketDQNConfig
from recloop.agents.module import QModule
from recloop.agents.runner import MarketRunner
from recloop.market import Market
from recloop.settings.params import AgentParams


@dataclass(frozen=True)
class Shape:
    """What the network is built for.

    Attributes:
        features: float32 (N, F), the items.
        profile: P.
        context: C.
        history: H.
    """

    features: np.ndarray
    profile: int
    context: int
    history: int


def build_dqn(agent: AgentParams, seed: int, shape: Shape, market: Callable[[], Market]) -> MarketDQN:
    """A double DQN over a market that each runner opens by calling ``market``; Ray must be running."""
    torch.manual_seed(seed)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    config = MarketDQNConfig()
    config.total_steps = agent.env_steps
    config.epsilon_range = (agent.epsilon_start, agent.epsilon_end)
    config.epsilon_decay_share = agent.epsilon_decay_share
    config.updates_per_step = agent.updates_per_step
    config.target_update_every = agent.target_update_every
    config.replay_capacity = agent.replay_capacity
    config.environment(
        observation_space=_observation_space(shape),
        action_space=spaces.Discrete(len(shape.features)),
        env_config={"users": agent.users_at_once, "market": market},
    )
    config.framework("torch")
    config.env_runners(env_runner_cls=MarketRunner, num_env_runners=agent.num_env_runners)
    config.fault_tolerance(restart_failed_env_runners=False)  # a failure ends the run, which can go on later
    config.learners(
        num_learners=agent.num_learners,
        num_gpus_per_learner=_gpus_per_learner(agent.num_gpus_per_learner),
    )
    config.training(
        gamma=agent.gamma,
        lr=agent.learning_rate,
        train_batch_size_per_learner=agent.train_batch // max(1, agent.num_learners),
        grad_clip=10.0,
    )
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=None)
    config.rl_module(
        rl_module_spec=RLModuleSpec(
            module_class=QModule,
            model_config={
                "features": shape.features.tolist(),
                "profile": shape.profile,
                "context": shape.context,
                "dim": agent.dim,
                "hidden": agent.hidden,
            },
        )
    )
    config.debugging(seed=seed, log_level="ERROR")
    return config.build_algo()


def _observation_space(shape: Shape) -> spaces.Dict:
    return spaces.Dict(
        {
            "profile": spaces.Box(-1e6, 1e6, (shape.profile,)),
            "context": spaces.Box(-1.0, 1.0, (shape.context,)),
            "history": spaces.MultiDiscrete([len(shape.features) + 1] * shape.history),
        }
    )


def _gpus_per_learner(wanted: float | str) -> float:
    """``auto``: one where the cluster has one, else none."""
    if wanted != "auto":
        return float(wanted)
    return 1.0 if ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

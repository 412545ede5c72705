"""Env steps per second of the double DQN, learning included, beside RLlib's own DQN.

Both learn in the market's ground truth. The peer steps its people one by one, as RLlib does, sees a
vector without the embedding of the history, and takes fewer gradient updates per env step (2.8 samples
trained per sample taken, to our 4): all of it less work than ours.
"""

from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import ray
import torch
from gymnasium import spaces
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env

from benchmarks.race import SEED, Row, main, race
from recloop.agents.build import Shape, build_dqn
from recloop.agents.cluster import cluster
from recloop.features import FeatureSpec
from recloop.market import GroundTruth, SinglePerson
from recloop.settings import load_params

STEPS = 4096
PEOPLE = 8  # of the peer at once
PARAMS = load_params()


def market() -> GroundTruth:
    """A market that shows people's age, the moment and the history."""
    found = GroundTruth(PARAMS.market, PARAMS.reward, SEED)
    spec = FeatureSpec(
        item_ids=tuple(item.item_id for item in found.items), categories={}, scales={},
        devices=("phone", "tablet", "desktop"), history=10, rating_positive=4.0,
    )  # fmt: skip
    return found.attach(spec)


class Flat(gymnasium.Env[np.ndarray, int]):
    """One person who is shown one item; the observation is one vector."""

    def __init__(self, _: Any = None) -> None:
        self.person = SinglePerson(market(), 1)
        first, _info = self.reset()
        self.observation_space = spaces.Box(-np.inf, np.inf, first.shape, np.float32)
        self.action_space = spaces.Discrete(PARAMS.market.items)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        seen, info = self.person.reset(seed=seed)
        return _vector(seen), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        seen, *rest = self.person.step(np.array([action]))
        return _vector(seen), *rest


def _vector(seen: dict[str, np.ndarray]) -> np.ndarray:
    history = seen["history"] / PARAMS.market.items
    return np.concatenate([seen["profile"], seen["context"], history]).astype(np.float32)


def peer() -> DQN:
    """RLlib's DQN: double, duelling, uniform replay of episodes."""
    agent = PARAMS.agent
    register_env("flat", Flat)
    config = DQNConfig().environment("flat").env_runners(num_envs_per_env_runner=PEOPLE)
    config.training(
        train_batch_size_per_learner=agent.train_batch,
        training_intensity=agent.updates_per_step * agent.train_batch / agent.users_at_once,
        replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": agent.replay_capacity},
        num_steps_sampled_before_learning_starts=agent.train_batch,
        double_q=True,
        dueling=True,
    )
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=[agent.hidden, agent.hidden]))
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=STEPS)
    config.debugging(seed=SEED, log_level="ERROR")
    return config.build_algo()


def cases(repeats: int) -> Iterator[Row]:
    """One case: the loop's own sizes."""
    torch.set_num_threads(1)
    with cluster():
        seen = market().reset(1)
        width = {name: x.shape[1] for name, x in seen.items()}
        features = np.eye(PARAMS.market.items, 16, dtype=np.float32)
        shape = Shape(features, width["profile"], width["context"], width["history"])
        mine, theirs = build_dqn(PARAMS.agent, SEED, shape, market), peer()

        def ours() -> None:
            goal = mine.env_steps + STEPS
            while mine.env_steps < goal:
                mine.step()

        yield race(
            "double DQN", ours, f"RLlib {ray.__version__} DQN", theirs.train, STEPS, "env steps/s", repeats
        )
        mine.stop()
        theirs.stop()


if __name__ == "__main__":
    main(cases, __doc__)

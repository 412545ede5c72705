"""From parameters to an RLlib algorithm that is ready to train."""

import logging
from collections.abc import Callable
from dataclasses import replace

import ray
import torch
from gymnasium import spaces
from ray.rllib.core.rl_module import RLModuleSpec

from recloop.agents.algorithm import LogAlgorithm, MarketAlgorithm, MarketConfig
from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.log import LoggedRows
from recloop.agents.network import Shape
from recloop.agents.runner import MarketRunner
from recloop.market import Market
from recloop.settings.params import AgentParams

# People at once from which a GPU is faster than one thread of a CPU, by benchmarks.gpu: when it learns alone,
# and when it steps the market too.
GPU_LEARNS, GPU_STEPS = 1024, 4096


def build(
    agent: AgentParams,
    seed: int,
    shape: Shape,
    market: Callable[[], Market],
    rows: LoggedRows | None = None,
) -> MarketAlgorithm:
    """The algorithm that ``agent`` names, over a market that each runner opens by calling ``market``.

    ``rows``: the log, for the algorithms that learn from one. Ray must be running.

    Raises:
        ValueError: the algorithm learns from a log, and there is none.
    """
    kind = ALGORITHMS[agent.algorithm]
    if kind.from_log and rows is None:
        raise ValueError(f"{agent.algorithm} learns from logged requests: give it some")
    if kind.from_log and rows is not None:
        shape = replace(shape, available=rows.shown(len(shape.features)))
    torch.manual_seed(seed)
    logging.getLogger("ray.rllib").setLevel(logging.ERROR)
    config = MarketConfig(algo_class=kind)
    config.agent = agent
    config.environment(
        observation_space=_observation_space(shape),
        action_space=spaces.Discrete(len(shape.features)),
        env_config={"users": agent.users_at_once, "market": None if kind.from_log else market},
    )
    config.framework("torch")
    runners = 0 if kind.from_log else agent.num_env_runners
    config.env_runners(env_runner_cls=MarketRunner, num_env_runners=runners)
    config.fault_tolerance(restart_failed_env_runners=True)
    config.learners(
        num_learners=agent.num_learners,
        num_gpus_per_learner=_gpus_per_learner(agent),
    )
    config.training(
        gamma=agent.gamma,
        lr=agent.learning_rate,
        train_batch_size_per_learner=agent.train_batch // max(1, agent.num_learners),
        grad_clip=10.0,
    )
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=None)
    config.rl_module(
        rl_module_spec=RLModuleSpec(module_class=kind.module, model_config={"agent": agent, "shape": shape})
    )
    config.debugging(seed=seed, log_level="ERROR")
    algorithm = config.build_algo()
    if rows is not None and isinstance(algorithm, LogAlgorithm):
        algorithm.rows = rows.to(algorithm.device)
    return algorithm


def _observation_space(shape: Shape) -> spaces.Dict:
    return spaces.Dict(
        {
            "profile": spaces.Box(-1e6, 1e6, (shape.profile,)),
            "context": spaces.Box(-1.0, 1.0, (shape.context,)),
            "history": spaces.MultiDiscrete([len(shape.features) + 1] * shape.history),
        }
    )


def market_device(agent: AgentParams) -> str:
    """Where the market of training steps its people; with ``auto`` on a GPU that a learner of this process
    has, if they are so many that it is faster there. Ray must be running.

    Raises:
        ValueError: a GPU is asked for, and there is none.
    """
    if agent.market_device == "cuda" and not torch.cuda.is_available():
        raise ValueError("agent.market_device is cuda, but PyTorch sees no GPU here: set it to auto or cpu")
    if agent.market_device != "auto":
        return agent.market_device
    alone = not agent.num_env_runners and not agent.num_learners
    many = agent.users_at_once >= GPU_STEPS
    return "cuda" if alone and many and _gpus_per_learner(agent) else "cpu"


def _gpus_per_learner(agent: AgentParams) -> float:
    """``auto``: one where the cluster has one and the batches are large enough to be worth it, else none."""
    if agent.num_gpus_per_learner != "auto":
        return float(agent.num_gpus_per_learner)
    large = agent.users_at_once >= GPU_LEARNS or agent.train_batch >= 2 * GPU_LEARNS
    return 1.0 if large and ray.cluster_resources().get("GPU", 0) >= 1 else 0.0

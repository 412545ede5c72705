"""Env steps per second, learning included, of PPO and the double DQN beside RLlib's own, stable-baselines3
and plain loops in torch.

All learn in the market's ground truth, one item a request, with the same batch, epochs and gradient updates
per env step. RLlib and stable-baselines3 step people one by one, as they do, and see a vector without the
embedding of the history, which is less work than ours; the plain loops are written for this market alone,
with our network, and are what a framework can cost nothing beside.
"""

from collections.abc import Callable, Iterator
from typing import Any

import gymnasium
import numpy as np
import ray
import stable_baselines3
import torch
from gymnasium import spaces
from ray.rllib.algorithms.algorithm_config import AlgorithmConfig
from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.tune.registry import register_env
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.nn import functional

from benchmarks.race import SEED, Row, main, race
from recloop.agents.actor_critic import entropy
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.network import Shape, TwoTower
from recloop.agents.plackett_luce import draw, log_probability
from recloop.agents.replay import Replay
from recloop.agents.returns import advantages
from recloop.features import FeatureSpec
from recloop.market import GroundTruth, SinglePerson
from recloop.settings import load_params
from recloop.settings.params import AgentParams

STEPS = 4096
PEOPLE = 8  # of a peer that steps them one by one
PARAMS = load_params()
AGENT = PARAMS.agent.model_copy(update={"slate": 1})


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
        self.person = SinglePerson(market(), slate=1)
        first = _vector(self.person.reset(seed=SEED)[0])
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


def _stock(config: AlgorithmConfig, runners: int) -> Any:
    register_env("flat", Flat)
    config.environment("flat").env_runners(num_env_runners=runners, num_envs_per_env_runner=PEOPLE)
    hidden = [AGENT.network.hidden] * 2
    config.rl_module(model_config=DefaultModelConfig(fcnet_hiddens=hidden))
    config.reporting(min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=STEPS)
    config.debugging(seed=SEED, log_level="ERROR")
    return config.build_algo()


def stock_ppo(runners: int) -> Any:
    """RLlib's PPO."""
    gradient = AGENT.gradient
    return _stock(
        PPOConfig().training(
            train_batch_size_per_learner=STEPS, minibatch_size=gradient.minibatch,
            num_epochs=gradient.epochs,
        ),
        runners,
    )  # fmt: skip


def stock_dqn(runners: int) -> Any:
    """RLlib's DQN: double, duelling, uniform replay of episodes."""
    value = AGENT.value
    return _stock(
        DQNConfig().training(
            train_batch_size_per_learner=AGENT.train_batch,
            training_intensity=value.updates_per_step * AGENT.train_batch / AGENT.users_at_once,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": value.replay_capacity},
            num_steps_sampled_before_learning_starts=AGENT.train_batch, double_q=True, dueling=True,
        ),
        runners,
    )  # fmt: skip


def baselines_ppo() -> Callable[[], object]:
    """stable-baselines3's PPO."""
    gradient, envs = AGENT.gradient, DummyVecEnv([Flat] * PEOPLE)
    model = stable_baselines3.PPO(
        "MlpPolicy", envs, n_steps=STEPS // PEOPLE, batch_size=gradient.minibatch, n_epochs=gradient.epochs,
        policy_kwargs={"net_arch": [AGENT.network.hidden] * 2}, seed=SEED, device="cpu",
    )  # fmt: skip
    return lambda: model.learn(STEPS, reset_num_timesteps=False)


def baselines_dqn() -> Callable[[], object]:
    """stable-baselines3's DQN: neither double nor duelling."""
    value = AGENT.value
    model = stable_baselines3.DQN(
        "MlpPolicy", DummyVecEnv([Flat] * PEOPLE), batch_size=AGENT.train_batch, train_freq=PEOPLE,
        gradient_steps=max(1, round(value.updates_per_step * PEOPLE * PEOPLE / AGENT.users_at_once)),
        learning_starts=AGENT.train_batch, buffer_size=value.replay_capacity, seed=SEED, device="cpu",
        policy_kwargs={"net_arch": [AGENT.network.hidden] * 2},
    )  # fmt: skip
    return lambda: model.learn(STEPS, reset_num_timesteps=False)


def plain_ppo(shape: Shape) -> Callable[[], object]:
    """PPO as a loop for this market alone."""
    gradient, world = AGENT.gradient, market()
    net, luck = TwoTower(shape, AGENT.network), torch.Generator().manual_seed(SEED)
    optimiser = torch.optim.Adam(net.parameters(), AGENT.learning_rate, fused=True)
    world.reset(AGENT.users_at_once)

    def collect() -> dict[str, torch.Tensor]:
        steps = []
        for _ in range(gradient.rollout):
            seen = world.observe()
            state = net.state(seen)
            logits = net.scores(state)
            slate = draw(logits, 1, luck)
            row = seen | {"slate": slate, "old": log_probability(logits, slate), "value": net.value(state)}
            outcome = world.step(slate)
            world.arrive(outcome.done)
            steps.append(row | {"reward": outcome.reward, "done": outcome.done})
        whole = {name: torch.stack([step[name] for step in steps]) for name in steps[0]}
        beyond = net.value(net.state(world.observe()))
        found = advantages(
            whole["reward"], whole["done"], whole["value"], beyond, AGENT.gamma, gradient.gae_lambda
        )
        whole |= {
            "target": found + whole["value"],
            "advantage": (found - found.mean()) / (found.std() + 1e-6),
        }
        return {name: x.flatten(0, 1) for name, x in whole.items()}

    def step(rows: dict[str, torch.Tensor]) -> None:
        state = net.state(rows)
        logits = net.scores(state)
        ratio = (log_probability(logits, rows["slate"]) - rows["old"]).exp()
        clipped = ratio.clamp(1 - gradient.clip, 1 + gradient.clip)
        actor = -torch.minimum(ratio * rows["advantage"], clipped * rows["advantage"]).mean()
        critic = functional.mse_loss(net.value(state), rows["target"])
        loss = actor + gradient.value_share * critic - gradient.entropy * entropy(logits).mean()
        _descend(optimiser, net, loss)

    def run() -> None:
        with torch.no_grad():
            rows = collect()
        for _ in range(gradient.epochs):
            for part in torch.randperm(STEPS, generator=luck).split(gradient.minibatch):
                step({name: x[part] for name, x in rows.items()})

    return run


def plain_dqn(shape: Shape) -> Callable[[], object]:
    """Double DQN as a loop for this market alone."""
    value, world, people = AGENT.value, market(), AGENT.users_at_once
    net, target = TwoTower(shape, AGENT.network), TwoTower(shape, AGENT.network)
    target.load_state_dict(net.state_dict())
    optimiser = torch.optim.Adam(net.parameters(), AGENT.learning_rate, fused=True)
    memory, luck = Replay(value.replay_capacity, SEED), torch.Generator().manual_seed(SEED)
    world.reset(people)
    updates = 0

    def act() -> None:
        seen = world.observe()
        with torch.no_grad():
            best = net.q(seen).argmax(1)
        anything = torch.randint(world.n_items, (people,), generator=luck)
        item = torch.where(torch.rand(people, generator=luck) < 0.5, anything, best)
        outcome = world.step(item[:, None])
        ahead = {f"next_{name}": x for name, x in world.observe().items()}
        memory.add(seen | ahead | {"item": item, "reward": outcome.reward, "done": outcome.done})
        world.arrive(outcome.done)

    def learn() -> None:
        nonlocal updates
        _, rows = memory.draw(AGENT.train_batch, 0.0)
        ahead = {name: rows[f"next_{name}"] for name in ("profile", "context", "history")}
        with torch.no_grad():
            best = net.q(ahead).argmax(1, keepdim=True)
            beyond = target.q(ahead).gather(1, best)[:, 0]
        wanted = rows["reward"] + AGENT.gamma * (~rows["done"]) * beyond
        q = net.q(rows).gather(1, rows["item"][:, None])[:, 0]
        _descend(optimiser, net, functional.smooth_l1_loss(q, wanted))
        updates += 1
        if updates % value.target_update_every == 0:
            target.load_state_dict(net.state_dict())

    def run() -> None:
        for _ in range(STEPS // people):
            act()
            for _ in range(value.updates_per_step):
                learn()

    return run


def _descend(optimiser: torch.optim.Optimizer, net: torch.nn.Module, loss: torch.Tensor) -> None:
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(net.parameters(), 10.0)
    optimiser.step()


def _ours(agent: AgentParams, shape: Shape) -> tuple[Any, Callable[[], object]]:
    algorithm = build(agent, SEED, shape, market)

    def run() -> None:
        goal = algorithm.env_steps + STEPS
        while algorithm.env_steps < goal:
            algorithm.step()

    return algorithm, run


def cases(repeats: int) -> Iterator[Row]:
    """PPO and DQN beside each peer, at the loop's own sizes."""
    torch.set_num_threads(1)
    with cluster(workers=2):
        width = {name: x.shape[1] for name, x in market().reset(1).items()}
        features = np.eye(PARAMS.market.items, 16, dtype=np.float32)
        shape = Shape(features, width["profile"], width["context"], width["history"])
        kinds = {
            "ppo": (stock_ppo, baselines_ppo, plain_ppo),
            "dqn": (stock_dqn, baselines_dqn, plain_dqn),
        }  # fmt: skip
        for name, (stock, baselines, plain) in kinds.items():
            algorithm, ours = _ours(AGENT.model_copy(update={"algorithm": name}), shape)
            for runners in (0, 2):
                other = stock(runners)
                title = f"RLlib {ray.__version__}, {max(1, runners)} env runner{'s' * (runners > 1)}"
                yield race(name, ours, title, other.train, STEPS, "env steps/s", repeats)
                other.stop()
            title = f"stable-baselines3 {stable_baselines3.__version__}"
            yield race(name, ours, title, baselines(), STEPS, "env steps/s", repeats)
            yield race(name, ours, "a plain loop in torch", plain(shape), STEPS, "env steps/s", repeats)
            algorithm.stop()


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5)

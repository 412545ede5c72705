"""The market that all learn in: as it is, person by person, and as a vectorised environment."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from torch import Tensor, nn

from benchmarks.race import SEED
from recloop.agents.network import Shape, TwoTower
from recloop.features import FeatureSpec
from recloop.market import GroundTruth, SinglePerson
from recloop.settings import load_params
from recloop.settings.params import AgentParams

PARAMS = load_params()
HISTORY, FEATURES, WIDE = 10, 16, 1e6


@dataclass(frozen=True)
class Trainee:
    """Somebody who learns.

    Attributes:
        title: who it is.
        run: answers about so many requests, and learns from them.
        network: the network as it is now.
        close: lets go of processes.
    """

    title: str
    run: Callable[[int], object]
    network: Callable[[], TwoTower]
    close: Callable[[], object] = lambda: None


def agent(algorithm: str, env_steps: int = PARAMS.agent.env_steps, priority: float = 0.0) -> AgentParams:
    """The parameters as shipped, for slates of one item."""
    value = PARAMS.agent.value.model_copy(update={"priority_exponent": priority})
    changes = {"algorithm": algorithm, "slate": 1, "env_steps": env_steps, "value": value}
    return PARAMS.agent.model_copy(update=changes)


def market(device: str = "cpu") -> GroundTruth:
    """Shows people's age, the moment and the history."""
    found = GroundTruth(PARAMS.market, PARAMS.reward, SEED, device=device)
    spec = FeatureSpec(
        item_ids=tuple(item.item_id for item in found.items), categories={}, scales={},
        devices=("phone", "tablet", "desktop"), history=HISTORY, rating_positive=4.0,
    )  # fmt: skip
    return found.attach(spec)


def shape() -> Shape:
    """Of the network, for ``market``."""
    width = {name: x.shape[1] for name, x in market().reset(1).items()}
    features = np.eye(PARAMS.market.items, FEATURES, dtype=np.float32)
    return Shape(features, width["profile"], width["context"], width["history"])


class TowerOfVectors(nn.Module):
    """The same network for observations that are vectors: profile, context and history side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.net = TwoTower(shape(), PARAMS.agent.network)
        self.widths = [shape().profile, shape().context, HISTORY]

    def state(self, vectors: Tensor) -> Tensor:
        """float32 (B, hidden) of float32 (B, P + C + H)."""
        profile, context, history = vectors.split(self.widths, 1)
        return self.net.state({"profile": profile, "context": context, "history": history.long()})

    def q(self, vectors: Tensor) -> Tensor:
        """float32 (B, N)."""
        return self.net.q_of(self.state(vectors), None, None)


def size(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def single_spaces() -> tuple[spaces.Box, spaces.Discrete]:
    """Of one person."""
    width = shape().profile + shape().context + HISTORY
    return spaces.Box(-WIDE, WIDE, (width,), np.float32), spaces.Discrete(PARAMS.market.items)


class Flat(gymnasium.Env[np.ndarray, int]):
    """One person who is shown one item."""

    def __init__(self, _: Any = None) -> None:
        self.person = SinglePerson(market(), slate=1)
        self.observation_space, self.action_space = single_spaces()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        seen, info = self.person.reset(seed=seed)
        return _row(seen), info

    def step(self, action: int) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        seen, reward, done, cut, _ = self.person.step(np.array([action]))
        return _row(seen), reward, done, cut, {}


def _row(seen: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([seen["profile"], seen["context"], seen["history"]], dtype=np.float32)


def rows(seen: dict[str, Tensor]) -> np.ndarray:
    """float32 (B, P + C + H)."""
    return torch.cat([seen["profile"], seen["context"], seen["history"].float()], 1).numpy()


class FlatVector(VectorEnv):
    """The batched market as Gymnasium's vectorised environment: who left is replaced at the next step."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012, as Gymnasium declares it

    def __init__(self, num_envs: int) -> None:
        self.num_envs, self.world = num_envs, market()
        self.single_observation_space, self.single_action_space = single_spaces()
        self.observation_space = gymnasium.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gymnasium.vector.utils.batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.world.seed(int(np.atleast_1d(seed)[0]))
        self.gone = torch.zeros(self.num_envs, dtype=torch.bool)
        return rows(self.world.reset(self.num_envs)), {}

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        outcome = self.world.step(torch.as_tensor(np.asarray(actions, np.int64))[:, None])
        gone, self.gone = self.gone, outcome.done & ~self.gone
        if gone.any():
            self.world.arrive(gone)
        reward = (outcome.reward * ~gone).numpy().astype(np.float64)
        return rows(self.world.observe()), reward, self.gone.numpy(), np.zeros(self.num_envs, bool), {}

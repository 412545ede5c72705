"""An RLlib env runner that steps many people at once and returns columns, never episodes."""

from collections.abc import Callable
from typing import Any

import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from torch import Tensor

from recloop.agents.replay import Columns
from recloop.market import Market


class NotFiniteError(ValueError):
    """The market paid a reward that is not a number."""


class MarketRunner(EnvRunner, Checkpointable):
    """Steps ``env_config["users"]`` people in ``env_config["market"](device)``.

    One request is one step: the action is the item that is shown, alone. Epsilon-greedy: with
    probability epsilon the item is uniform over the catalogue, else the one of the highest Q.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Open the market with a seed of this worker's own."""
        settings = self.config.env_config
        self.market: Market = settings["market"]()
        seed = (self.config.seed or 0) * 1000 + (self.worker_index or 0)
        self.market.seed(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self.observation = self.market.reset(settings["users"])
        self._running = torch.zeros(settings["users"])
        self._length = torch.zeros(settings["users"])
        self._returns: list[Tensor] = []
        self._lengths: list[Tensor] = []

    def make_module(self) -> None:
        """Build the network that acts; the learner's weights come by ``set_state``."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()

    def get_spaces(self) -> dict[str, Any]:
        """The spaces of the configuration, under the names that RLlib asks for."""
        spaces = (self.config.observation_space, self.config.action_space)
        return {"__env__": spaces, "__env_single__": spaces, DEFAULT_MODULE_ID: spaces}

    def assert_healthy(self) -> None:
        """Raise if the market is gone."""
        assert self.market is not None

    @torch.no_grad()
    def sample(self, *, steps: int, epsilon: float, **_: Any) -> Columns:
        """``steps`` requests of everyone; returns ``steps * users`` transitions as columns."""
        parts = [self._step(epsilon) for _ in range(steps)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _step(self, epsilon: float) -> Columns:
        before = self.observation
        users = len(before["profile"])
        greedy = self.module[DEFAULT_MODULE_ID].forward_exploration(before)["q"].argmax(1)
        anything = torch.randint(self.market.n_items, (users,), generator=self._generator)
        explore = torch.rand(users, generator=self._generator) < epsilon
        action = torch.where(explore, anything, greedy)
        outcome = self.market.step(action[:, None])
        if not torch.isfinite(outcome.reward).all():
            raise NotFiniteError("the market paid a reward that is not finite: check the log's rewards")
        after = self.market.observe()
        self._running += outcome.reward
        self._length += 1
        if outcome.done.any():
            self._returns.append(self._running[outcome.done])
            self._lengths.append(self._length[outcome.done])
            self._running[outcome.done] = 0
            self._length[outcome.done] = 0
            self.market.arrive(outcome.done)
        self.observation = self.market.observe()
        following = {f"next_{name}": x for name, x in after.items()}
        return {**before, **following, "action": action, "reward": outcome.reward, "done": outcome.done}

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` on this runner; an error reaches the algorithm, where RLlib's would end us."""
        return func(self, *args, **kwargs)

    def finished(self) -> tuple[Tensor, Tensor]:
        """Returns and lengths of the sessions that ended since the last call."""
        empty = torch.zeros(0)
        found = torch.cat([empty, *self._returns]), torch.cat([empty, *self._lengths])
        self._returns, self._lengths = [], []
        return found

    def get_metrics(self) -> dict[str, Any]:
        """Nothing by RLlib's logger; ``finished`` is what the algorithm reads."""
        return self.metrics.reduce()

    def get_state(self, *_: Any, **__: Any) -> dict[str, Any]:
        """The acting network's weights."""
        return {COMPONENT_RL_MODULE: self.module.get_state()}

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        """What builds this runner again from a checkpoint."""
        return (), {"config": self.config}

    def set_state(self, state: dict[str, Any]) -> None:
        """Take the learner's weights, which come to a remote runner as a reference."""
        weights = state.get(COMPONENT_RL_MODULE)
        if isinstance(weights, ray.ObjectRef):
            weights = ray.get(weights)
        if weights is not None:
            self.module.set_state(weights)

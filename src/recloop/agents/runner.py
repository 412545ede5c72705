"""An RLlib env runner that steps many people at once and returns columns, never episodes."""

from collections.abc import Callable
from typing import Any

import ray
import torch
from ray.rllib.core import COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable
from torch import Tensor

from recloop.agents.module import MarketModule
from recloop.agents.network import Columns
from recloop.market import Market


class NotFiniteError(ValueError):
    """A reward or a loss is not a number."""


class MarketRunner(EnvRunner, Checkpointable):
    """Steps ``env_config["users"]`` people in ``env_config["market"]()``, as its module acts.

    Where there is no market, since all is learnt from a log, it only holds the module.
    """

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        super().__init__(config=config, **kwargs)
        self.make_env()
        self.make_module()

    def make_env(self) -> None:
        """Open the market with a seed of this worker's own."""
        settings = self.config.env_config
        if settings["market"] is None:
            return
        self.market: Market = settings["market"]()
        seed = (self.config.seed or 0) * 1000 + (self.worker_index or 0)
        self.market.seed(seed)
        self.observation = self.market.reset(settings["users"])
        device = self.observation["profile"].device
        self._luck = torch.Generator(device).manual_seed(seed)
        self._sessions = torch.zeros(2, settings["users"], device=device)  # return and length so far
        self._finished: list[Tensor] = []

    def make_module(self) -> None:
        """Build the network that acts; the learner's weights come by ``set_state``."""
        spec = self.config.get_multi_rl_module_spec(spaces=self.get_spaces(), inference_only=True)
        self.module = spec.build()
        if self.config.env_config["market"] is not None:
            self.module[DEFAULT_MODULE_ID].to(self.observation["profile"].device)

    @property
    def acting(self) -> MarketModule:
        """What acts."""
        return self.module[DEFAULT_MODULE_ID]

    def get_spaces(self) -> dict[str, Any]:
        """The spaces of the configuration, under the names that RLlib asks for."""
        spaces = (self.config.observation_space, self.config.action_space)
        return {"__env__": spaces, "__env_single__": spaces, DEFAULT_MODULE_ID: spaces}

    def assert_healthy(self) -> None:
        """Raise if there is nothing that could act."""
        assert self.module is not None

    @torch.no_grad()
    def sample(
        self, *, steps: int, epsilon: float, candidates: Tensor | None = None, **_: Any
    ) -> Columns | NotFiniteError:
        """``steps`` requests of everyone, as the rows that the module learns from.

        A reward that is no number is returned as the error that it is: one that is raised would be taken
        for the loss of this runner.
        """
        shared = {} if candidates is None else {"candidates": candidates.to(self._sessions.device)}
        parts = [self._step(epsilon, shared) for _ in range(steps)]
        rollout = {name: torch.stack([part[name] for part in parts]) for name in parts[0]}
        if not torch.isfinite(rollout["reward"]).all():
            return NotFiniteError("the market paid a reward that is not finite: check the log's rewards")
        if not self.acting.ahead:
            rollout |= {name: x[None] for name, x in _ahead(self.observation).items()}
        return self.acting.to_columns(rollout | shared)

    def _step(self, epsilon: float, shared: Columns) -> Columns:
        before = self.observation | shared
        acted = self.acting.explore(before, self._luck, epsilon)
        shown = self.acting.shown(acted["slate"], before)
        outcome = self.market.step(shown)
        ahead = _ahead(self.market.observe()) if self.acting.ahead else {}
        done = outcome.done
        self._sessions[0] += outcome.reward
        self._sessions[1] += 1
        if done.any():
            self._finished.append(self._sessions[:, done])
            self._sessions.mul_(~done)
            self.market.arrive(done)
        answer = {"reward": outcome.reward, "done": done, "clicked": outcome.clicked}
        found = self.observation | ahead | acted | answer | {"item": shown}
        self.observation = self.market.observe()
        return found

    def apply(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call ``func`` on this runner; an error reaches the algorithm, where RLlib's would end us."""
        return func(self, *args, **kwargs)

    def finished(self) -> tuple[Tensor, Tensor]:
        """Returns and lengths of the sessions that ended since the last call."""
        returns, lengths = torch.cat([torch.zeros(2, 0), *(x.cpu() for x in self._finished)], 1)
        self._finished = []
        return returns, lengths

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


def _ahead(seen: Columns) -> Columns:
    return {f"next_{name}": x for name, x in seen.items()}

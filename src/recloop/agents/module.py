"""What RLlib moves between runners and learners: a network, the way it acts, and what it learns from."""

from abc import abstractmethod
from typing import Any

import torch
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import Tensor, nn

from recloop.agents.network import OBSERVATION, Columns, Shape
from recloop.settings.params import AgentParams


class MarketModule(TorchRLModule):
    """A network that acts in a market; ``model_config`` holds ``agent`` (AgentParams) and ``shape``.

    An observation may name what is offered: ``candidates`` int64 (n,), the same for everyone (drawn by
    the algorithm where the catalogue is large), or (B, n), each person's own (N is an empty place); and
    ``allowed`` bool (B, N), what this person may be shown.

    Attributes:
        net: the network that is learnt, and exported.
        slate: items shown at once while learning.
        ahead: whether each row tells what is seen after it, and not the rollout's last alone.
    """

    net: nn.Module
    slate = 1
    ahead = True

    def setup(self) -> None:
        """Build the network."""
        self.agent: AgentParams = self.model_config["agent"]
        self.shape: Shape = self.model_config["shape"]
        self.n_items = len(self.shape.features)
        available = torch.ones(self.n_items, dtype=torch.bool)
        if self.shape.available is not None:
            available = torch.as_tensor(self.shape.available).clone()
        self.all_available = bool(available.all())
        self.register_buffer("available", torch.cat([available, torch.zeros(1, dtype=torch.bool)]), False)
        self.net = self.make()

    @abstractmethod
    def make(self) -> nn.Module:
        """The network."""

    @abstractmethod
    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """Act: ``slate`` int64 (B, k), and what else learning from it needs."""

    @abstractmethod
    def to_columns(self, rollout: Columns) -> Columns:
        """Rows to learn from, of (T, B, ...) ``rollout``: what was seen (``next_`` too), shown and paid."""

    def exported(self) -> nn.Module:
        """The network that scores items for serving: profile, context, history to float32 (B, N)."""
        return self.net

    def choosable(self, observation: Columns) -> Tensor | None:
        """bool (B or 1, n): which of the offered may be shown; None: all of them."""
        offered, allowed = observation.get("candidates"), observation.get("allowed")
        if offered is None:
            fixed = None if self.all_available else self.available[None, :-1]
        else:
            fixed = self.available[offered].view(-1, offered.shape[-1])
        if allowed is None:
            return fixed
        if offered is not None:
            padded = torch.cat([allowed, torch.zeros_like(allowed[:, :1])], 1)
            allowed = padded[:, offered] if offered.dim() == 1 else padded.gather(1, offered)
        return allowed if fixed is None else allowed & fixed

    def shown(self, place: Tensor, observation: Columns) -> Tensor:
        """int64 (B, k) items at these places of what is offered; N where one may not be shown."""
        able, item = self.choosable(observation), self.named(place, observation)
        if able is None:
            return item
        return torch.where(able.expand(len(place), -1).gather(1, place), item, self.n_items)

    def named(self, place: Tensor, observation: Columns) -> Tensor:
        """int64 (B, k): the items at these places of what is offered."""
        offered = observation.get("candidates")
        if offered is None:
            return place
        return offered[place] if offered.dim() == 1 else offered.gather(1, place)

    def masked(self, scores: Tensor, observation: Columns) -> Tensor:
        """float32 (B, n): -inf where an item may not be shown."""
        able = self.choosable(observation)
        return scores if able is None else scores.masked_fill(~able, -torch.inf)


def anything(mask: Tensor | None, people: int, size: int, luck: torch.Generator) -> Tensor:
    """int64 (B,): a place drawn uniformly among those that may be shown; mask bool (B or 1, n)."""
    if mask is None:
        return torch.randint(size, (people,), generator=luck, device=luck.device)
    return torch.multinomial(mask.expand(people, -1).float(), 1, generator=luck)[:, 0]


class WithTarget(MarketModule, TargetNetworkAPI):
    """A module with a target network: a copy that follows at a distance (Mnih et al. 2015)."""

    def make_target_networks(self) -> None:
        """A copy that learns nothing by itself; the learner's alone."""
        self.target = make_target_network(self.net)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """The pairs that the learner keeps in step."""
        return [(self.net, self.target)]

    def forward_target(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The target network's scores of all items at the next observations."""
        return {"scores": self.target(*(batch[f"next_{name}"] for name in OBSERVATION))}


def following(batch: Columns) -> Columns:
    """The next observations of a batch."""
    found = {name: batch[f"next_{name}"] for name in (*OBSERVATION, "allowed") if f"next_{name}" in batch}
    if "candidates" in batch:
        shared = batch["candidates"].dim() == 1
        found["candidates"] = batch["candidates"] if shared else batch["next_candidates"]
    return found

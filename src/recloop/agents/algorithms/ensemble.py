"""An ensemble of DQNs on one memory (bootstrapped DQN; Osband et al. 2016, arXiv 1602.04621).

Each member learns from a random part of the transitions, so that members differ where there is little
data. While learning, everyone is answered by a member drawn for each request. For serving, Q is

    mean        the members' mean
    vote        the share of members whose ``slate`` best items hold the item, their mean deciding ties
    penalised   mean - ``penalty`` standard deviations: what is uncertain is shown less
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import ReplayAlgorithm
from recloop.agents.algorithms.dqn import QModule
from recloop.agents.learner import MarketLearner
from recloop.agents.module import following
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.settings.params import AgentParams

KEPT = 0.7  # chance that a member learns from a transition
TIES = 1e-3  # weight of the mean where votes are counted


class Committee(nn.Module):
    """M two-tower networks and how they are combined."""

    def __init__(self, shape: Shape, agent: AgentParams) -> None:
        super().__init__()
        self.members = nn.ModuleList(TwoTower(shape, agent.network) for _ in range(agent.ensemble.members))
        self.how, self.penalty = agent.ensemble.combine, agent.ensemble.penalty
        self.slate = min(agent.slate, len(shape.features))

    def each(self, observation: Columns, offered: Tensor | None) -> Tensor:
        """float32 (M, B, n): the members' Q."""
        members: list[Any] = list(self.members)
        return torch.stack([member.q(observation, offered) for member in members])

    def combined(self, each: Tensor) -> Tensor:
        """float32 (B, n) of (M, B, n)."""
        mean = each.mean(0)
        if self.how == "mean":
            return mean
        if self.how == "penalised":
            return mean - self.penalty * (each - mean).square().mean(0).sqrt()
        lowest = each.topk(min(self.slate, each.shape[2]), 2).values[:, :, -1:]
        squashed = (mean - mean.mean(1, keepdim=True)) / (mean.abs().amax(1, keepdim=True) + 1)
        return (each >= lowest).float().mean(0) + TIES * squashed

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N)."""
        observation = {"profile": profile, "context": context, "history": history}
        return self.combined(self.each(observation, None))


class CommitteeModule(QModule):
    """Epsilon-greedy on the Q of a member drawn for each request."""

    net: Any

    def make(self) -> nn.Module:
        """The members, from different initial weights."""
        return Committee(self.shape, self.agent)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """As ``QModule.explore``; ``heeded`` bool (B, M) says which members will learn from it."""
        each = self.net.each(observation, observation.get("candidates"))
        members, people, _ = each.shape
        who = torch.randint(members, (people,), generator=luck, device=each.device)
        rows = torch.arange(people, device=each.device)
        self._drawn = each[who, rows]
        heeded = torch.rand(people, members, generator=luck, device=each.device) < KEPT
        return super().explore(observation, luck, epsilon) | {"heeded": heeded}

    def q(self, net: Any, observation: Columns) -> Tensor:
        """Q of the members drawn for this request."""
        return self._drawn

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        offered, item = batch.get("candidates"), batch["item"][:, None]
        found = []
        for member in self.net.members:
            found.append(member.q_of(member.state(batch), item, offered)[:, 0])
        with torch.no_grad():
            ahead = following(batch)
            place = ahead.get("candidates")
            able = self.choosable(ahead)
            online = self.net.each(ahead, place)
            online = online if able is None else online.masked_fill(~able, -torch.inf)
            best = online.argmax(2, keepdim=True)
            beyond = self.target.each(ahead, place).gather(2, best)[:, :, 0]
        return {"q": torch.stack(found), "beyond": beyond}


class CommitteeLearner(MarketLearner):
    """DQN's loss, by member."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Sum over members of the mean Huber loss of what each heeds; notes the mean TD errors."""
        wanted = columns["reward"] + columns["discount"] * found["beyond"]
        self.notes["errors"] = (wanted - found["q"]).mean(0).detach()
        each = functional.smooth_l1_loss(found["q"], wanted, reduction="none") * columns["heeded"].T
        each = each * columns["weight"] if "weight" in columns else each
        return each.sum(0).mean() / KEPT


class Ensemble(ReplayAlgorithm):
    """See the docstring of this module."""

    module, learner = CommitteeModule, CommitteeLearner

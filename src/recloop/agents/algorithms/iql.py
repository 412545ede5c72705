"""Implicit Q-learning over discrete items (Kostrikov et al. 2022, arXiv 2110.06169, eq. 5 to 7).

    V:  minimise E_log[ L(Q'(s, a) - V(s)) ],   L(u) = |tau - 1(u < 0)| u^2          (expectile regression)
    Q:  minimise E_log[ (r + gamma V(s') - Q(s, a))^2 ]
    pi: maximise E_log[ exp(beta (Q'(s, a) - V(s))) log pi(a | s) ]

No value of an item that was not shown is ever asked for. tau = ``logs.expectile``, beta =
``logs.advantage_weight`` (of advantages of root mean square 1). pi is what is served.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.logged import capped, log_share, passed_over
from recloop.agents.module import WithTarget, following
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.settings.params import NetworkParams


class ImplicitNet(nn.Module):
    """A policy with V, and Q with towers of its own."""

    searchable = True

    def __init__(self, shape: Shape, sizes: NetworkParams) -> None:
        super().__init__()
        self.policy, self.judge = TwoTower(shape, sizes), TwoTower(shape, sizes)

    def q(self, observation: Columns, item: Tensor) -> Tensor:
        """float32 (B,): Q of int64 (B,) items."""
        state = self.judge.state(observation)
        return self.judge.value(state) + self.judge.scores(state, item[:, None])[:, 0]

    def query(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """The policy's."""
        return self.policy.query(profile, context, history)

    def item_matrix(self) -> Tensor:
        """The policy's."""
        return self.policy.item_matrix()

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N): the policy's scores."""
        return self.policy(profile, context, history)


class ImplicitModule(WithTarget):
    """All three."""

    net: ImplicitNet

    def make(self) -> nn.Module:
        """All three."""
        return ImplicitNet(self.shape, self.agent.network)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """The item of the highest score; nobody learns from it."""
        state = self.net.policy.state(observation)
        scores = self.net.policy.scores(state, observation.get("candidates"))
        return {"slate": self.masked(scores, observation).argmax(1, keepdim=True)}

    def to_columns(self, rollout: Columns) -> Columns:
        """As it came."""
        return rollout

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        item, offered = batch["item"], batch.get("candidates")
        policy = self.net.policy
        state = policy.state(batch)
        scores = policy.scores(state, offered)
        own = scores.gather(1, item[:, None]) if offered is None else policy.scores(state, item[:, None])
        with torch.no_grad():
            judged = self.target.q(batch, item)
            beyond = policy.value(policy.state(following(batch)))
        return {
            "q": self.net.q(batch, item),
            "value": policy.value(state),
            "log_probability": log_share(passed_over(self, scores, batch), item[:, None], own, self.n_items),
            "judged": judged,
            "beyond": beyond,
        }


class ImplicitLearner(MarketLearner):
    """The three losses."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Their sum."""
        logs = self.agent.logs
        gap = found["judged"] - found["value"]
        expectile = ((logs.expectile - (gap < 0).float()).abs() * gap.square()).mean()
        wanted = columns["reward"] + self.agent.gamma * (~columns["done"]) * found["beyond"]
        weight = capped(gap.detach() / self.size(gap), logs.advantage_weight, logs.weight_cap)
        actor = -(weight * found["log_probability"]).mean()
        return expectile + functional.mse_loss(found["q"], wanted) + actor


class IQL(LogAlgorithm):
    """See the docstring of this module."""

    module, learner = ImplicitModule, ImplicitLearner
    ahead = True

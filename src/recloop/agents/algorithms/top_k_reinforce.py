"""REINFORCE with the top-K off-policy correction (Chen et al. 2019, arXiv 1812.02353, eq. 3 and 6).

    maximise E_log[ w(s, a) lambda_K(s, a) G log pi(a | s) ]
    w = min(pi(a | s) / beta(a | s), cap),   lambda_K = K (1 - pi(a | s))^(K - 1)

with w and lambda_K held constant. beta is the logged propensity of the shown item; where that is unknown, a
second softmax on the same state, which learns to imitate the log and does not move the state. K is
``agent.slate``, G the discounted return, divided by its root mean square in the batch.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.logged import LoggedPolicy, log_share, passed_over
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.settings.params import NetworkParams


class TwoPolicies(TwoTower):
    """The policy, and an imitation of the one that logged."""

    def __init__(self, shape: Shape, sizes: NetworkParams) -> None:
        super().__init__(shape, sizes)
        self.logger_head = nn.Linear(sizes.hidden, sizes.dim)
        self.logger_items = nn.Embedding(self.count, sizes.dim)
        self.logger_bias = nn.Parameter(torch.zeros(self.count))
        nn.init.normal_(self.logger_items.weight, std=0.1)

    def logged(self, state: Tensor, offered: Tensor | None) -> Tensor:
        """float32 (B, n): the imitation's scores."""
        if offered is None:
            return torch.addmm(self.logger_bias, self.logger_head(state), self.logger_items.weight.T)
        found = self.logger_items(offered)
        query = self.logger_head(state)
        if offered.dim() == 1:
            return torch.addmm(self.logger_bias[offered], query, found.T)
        return (found @ query[:, :, None])[:, :, 0] + self.logger_bias[offered]


class CorrectedModule(LoggedPolicy):
    """With the imitation's log-probability of the shown item."""

    net: TwoPolicies

    def make(self) -> nn.Module:
        """Two policies."""
        return TwoPolicies(self.shape, self.agent.network)

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        found = super()._forward_train(batch)
        state, item, offered = found["state"].detach(), batch["item"][:, None], batch.get("candidates")
        scores = self.net.logged(state, offered)
        own = scores.gather(1, item) if offered is None else self.net.logged(state, item)
        return found | {"imitation": log_share(passed_over(self, scores, batch), item, own, self.n_items)}


class CorrectedLearner(MarketLearner):
    """The corrected gradient, and the imitation's cross-entropy."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Their sum."""
        known = columns["propensity"] > 0
        beta = torch.where(known, columns["propensity"], found["imitation"].detach().exp())
        chance = found["log_probability"].detach().exp()
        weight = (chance / beta.clamp(min=1e-9)).clamp(max=self.agent.logs.weight_cap)
        k = self.agent.slate
        weight = weight * k * (1 - chance).clamp(min=0) ** (k - 1)
        gain = columns["to_go"] / self.size(columns["to_go"])
        actor = -(weight * gain * found["log_probability"]).mean()
        critic = functional.mse_loss(found["value"], columns["to_go"])
        return actor - found["imitation"].mean() + self.agent.gradient.value_share * critic


class TopKReinforce(LogAlgorithm):
    """See the docstring of this module."""

    module, learner = CorrectedModule, CorrectedLearner

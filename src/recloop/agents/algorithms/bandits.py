"""Contextual bandits, the baselines that look no further than the next reward: an arm per item.

With x(s) = (profile, context, the features of the newest items' mean, 1), A_i = 1 + sum x x' and
b_i = sum r x over the requests where i was shown, theta_i = A_i^-1 b_i and s_i(x)^2 = x' A_i^-1 x:

    lin_ucb    shows argmax_i theta_i x + width s_i(x)     (Li et al. 2010, arXiv 1003.0146, algorithm 1)
    thompson   shows argmax_i of draws from N(theta_i x, width^2 s_i(x)^2)    (Agrawal and Goyal 2013, arXiv
               1209.3352, algorithm 1; drawn for each person by itself)
    logistic   fits P(reward > 0) = sigmoid(w_i x) by Adam on replayed requests and explores by epsilon

theta_i x (or w_i x) is what is served. The memory is N d^2, d the length of x.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import MarketAlgorithm, ReplayAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.module import MarketModule, anything
from recloop.agents.network import Columns, Shape
from recloop.agents.tables import TableError, alone

NUMBERS = 50_000_000  # of all A_i; 200 MB


class Arms(nn.Module):
    """A linear score per item, float32 (N, d)."""

    features: Tensor
    searchable = True

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        count, width = shape.features.shape
        self.width = shape.profile + shape.context + width + 1
        self.register_buffer("features", torch.as_tensor(shape.features, dtype=torch.float32), False)
        self.theta = nn.Parameter(torch.zeros(count, self.width))

    def encode(self, observation: Columns) -> Tensor:
        """float32 (B, d): x."""
        history, count = observation["history"], len(self.features)
        known = (history >= 0) & (history < count)
        seen = self.features[torch.where(known, history, 0)] * known[:, :, None]
        past = seen.sum(1) / known.sum(1, keepdim=True).clamp(min=1)
        one = torch.ones_like(past[:, :1])
        return torch.cat([observation["profile"], observation["context"], past, one], 1)

    def query(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, d): its inner products with ``item_matrix()`` are the scores."""
        return self.encode({"profile": profile, "context": context, "history": history})

    def item_matrix(self) -> Tensor:
        """float32 (N, d)."""
        return self.theta

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N)."""
        return self.query(profile, context, history) @ self.theta.T


class Ridge(Arms):
    """With A_i^-1 and b_i."""

    inverse: Tensor
    paid: Tensor
    seen: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__(shape)
        count = len(shape.features)
        if count * self.width**2 > NUMBERS:
            raise TableError(
                f"a bandit keeps {self.width} x {self.width} numbers for each of {count} items, more than"
                f" {NUMBERS} in all: choose logistic, or an algorithm with a network, in agent.algorithm"
            )
        self.register_buffer("seen", torch.eye(self.width).repeat(count, 1, 1))
        self.register_buffer("inverse", torch.eye(self.width).repeat(count, 1, 1))
        self.register_buffer("paid", torch.zeros(count, self.width))

    def spread(self, x: Tensor) -> Tensor:
        """float32 (B, N): s."""
        halfway = torch.einsum("bd,nde->bne", x, self.inverse)
        return torch.einsum("bne,be->bn", halfway, x).clamp(min=0).sqrt()

    @torch.no_grad()
    def learn(self, x: Tensor, item: Tensor, reward: Tensor) -> None:
        """Take in requests: float32 (B, d), int64 (B,), float32 (B,)."""
        self.paid.index_add_(0, item, reward[:, None] * x)
        self.seen.index_add_(0, item, x[:, :, None] * x[:, None, :])
        touched = item.unique()
        self.inverse[touched] = torch.linalg.inv(self.seen[touched])
        self.theta[touched] = torch.einsum("nde,ne->nd", self.inverse[touched], self.paid[touched])


class BanditModule(MarketModule):
    """Shows the item of the highest upper bound."""

    net: Ridge

    def make(self) -> nn.Module:
        """Nothing known."""
        return Ridge(self.shape)

    def bound(self, x: Tensor, luck: torch.Generator) -> Tensor:
        """float32 (B, N)."""
        return x @ self.net.theta.T + self.agent.bandit.width * self.net.spread(x)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """One item, with the x that it was chosen by."""
        x = self.net.encode(observation)
        bound, offered = self.bound(x, luck), observation.get("candidates")
        if offered is not None:
            place = offered.clamp(max=self.n_items - 1)
            bound = bound[:, place] if offered.dim() == 1 else bound.gather(1, place)
        return {"slate": self.masked(bound, observation).argmax(1, keepdim=True), "x": x}

    def to_columns(self, rollout: Columns) -> Columns:
        """``x``, ``item`` and ``reward``; an empty place teaches nothing."""
        rows = {name: rollout[name].flatten(0, 1) for name in ("x", "reward")}
        rows["item"] = rollout["item"].flatten()
        real = rows["item"] < self.n_items
        return {name: x[real] for name, x in rows.items()}


class ThompsonModule(BanditModule):
    """Shows the item of the highest draw."""

    def bound(self, x: Tensor, luck: torch.Generator) -> Tensor:
        """float32 (B, N)."""
        spread = self.net.spread(x)
        noise = torch.randn(spread.shape, generator=luck, device=x.device)
        return x @ self.net.theta.T + self.agent.bandit.width * spread * noise


class RidgeLearner(MarketLearner):
    """Takes requests in; there is no gradient."""

    def build(self) -> None:
        """Refuse company."""
        super().build()
        alone(self.config.num_learners, "a bandit")

    @torch.no_grad()
    def learn(self, rows: Columns) -> dict[str, Tensor]:
        """Returns the mean squared error before learning."""
        rows = self.here(rows)
        net: Any = self.plain.net
        error = rows["reward"] - (rows["x"] * net.theta[rows["item"]]).sum(1)
        net.learn(rows["x"], rows["item"], rows["reward"])
        return {"loss": error.square().mean()}


class LinUCB(MarketAlgorithm):
    """See the docstring of this module."""

    module, learner = BanditModule, RidgeLearner

    def turn(self) -> None:
        """One request of everyone, then all are taken in."""
        columns = self.collect(1, self.candidates())
        if columns:
            self.gradient_step(columns)
        self.hand_on()


class Thompson(LinUCB):
    """See the docstring of this module."""

    module = ThompsonModule


class LogisticModule(MarketModule):
    """Epsilon-greedy on the chance of a reward."""

    net: Arms

    def make(self) -> nn.Module:
        """Even chances."""
        return Arms(self.shape)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """The likeliest item, or with probability epsilon any."""
        x = self.net.encode(observation)
        offered = observation.get("candidates")
        if offered is None:
            scores = x @ self.net.theta.T
        else:  # no product over the whole of a large catalogue
            theta = self.net.theta[offered.clamp(max=self.n_items - 1)]
            scores = x @ theta.T if offered.dim() == 1 else (theta @ x[:, :, None])[:, :, 0]
        people, size = scores.shape
        chance = anything(self.choosable(observation), people, size, luck)
        wanders = torch.rand(people, generator=luck, device=x.device) < epsilon
        best = self.masked(scores, observation).argmax(1)
        return {"slate": torch.where(wanders, chance, best)[:, None], "x": x}

    def to_columns(self, rollout: Columns) -> Columns:
        """As the bandits'."""
        return BanditModule.to_columns(self, rollout)  # type: ignore[arg-type]

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        return {"logit": (batch["x"] * self.net.theta[batch["item"]]).sum(1)}


class LogisticLearner(MarketLearner):
    """Cross-entropy of whether a reward came."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Mean over the rows; notes how far each was off."""
        seen = (columns["reward"] > 0).float()
        self.notes["errors"] = (seen - found["logit"].sigmoid()).detach()
        return functional.binary_cross_entropy_with_logits(found["logit"], seen)


class Logistic(ReplayAlgorithm):
    """See the docstring of this module."""

    module, learner = LogisticModule, LogisticLearner

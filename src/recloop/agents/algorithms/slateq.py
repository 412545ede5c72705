"""SlateQ (Ie et al. 2019, arXiv 1905.12767): the value of a slate from the values of its items.

    Q(s, A) = sum_{i in A + none} P(i | s, A) Qbar(s, i)                                          (eq. 13)
    Qbar(s, i) <- r + gamma max_{A'} Q(s', A')   for the item i that was chosen, none included    (eq. 19)

P is a conditional logit, P(i | s, A) = v_i / (v_none + sum_{j in A} v_j), fitted on what people chose while
the values are learnt. The best slate maximises a ratio of linear functions, which Dinkelbach's iteration
(1967) finds: the k items of the largest v_i (Qbar_i - l), with l the value of the best slate so far. Where
few items are better than l, the slate is still filled. For serving an item scores v_i (Qbar_i - l).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import ReplayAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.module import WithTarget, following
from recloop.agents.network import Columns, Shape, TwoTower
from recloop.agents.returns import n_step
from recloop.settings.params import NetworkParams

ITERATIONS = 4  # of Dinkelbach; it converges superlinearly
LARGEST = 20.0  # logit of choice, so that its exponential stays finite


class SlateNet(TwoTower):
    """Qbar by the duelling network; choice by a second query; both also of choosing none."""

    searchable = False

    def __init__(self, shape: Shape, sizes: NetworkParams, slate: int) -> None:
        super().__init__(shape, sizes)
        self.slate = min(slate, self.count)
        self.choice_head = nn.Linear(sizes.hidden, sizes.dim)
        self.choice_bias = nn.Parameter(torch.zeros(self.count))
        self.none_head = nn.Linear(sizes.hidden, 2)

    def both(self, state: Tensor, offered: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Qbar and logits of choice, float32 (B, n + 1) each; the last column is none."""
        none = self.none_head(state)
        q = torch.cat([self.q_of(state, offered, offered), self.value_head(state) + none[:, :1]], 1)
        choice = torch.cat([self.match(self.choice_head(state), self.choice_bias, offered), none[:, 1:]], 1)
        return q, choice.clamp(-LARGEST, LARGEST)

    def ranked(self, q: Tensor, choice: Tensor, able: Tensor | None) -> tuple[Tensor, Tensor]:
        """v_i (Qbar_i - l), float32 (B, n), -inf where not ``able``; and l (B, 1), of the best slate."""
        mass = choice.exp()
        size = min(self.slate, q.shape[1] - 1)
        worth = q[:, -1:]
        for _ in range(ITERATIONS):
            gain = mass[:, :-1] * (q[:, :-1] - worth)
            gain = gain if able is None else gain.masked_fill(~able, -torch.inf)
            best = gain.topk(size, 1).indices
            real = 1.0 if able is None else able.expand_as(gain).gather(1, best).float()
            chosen = mass.gather(1, best) * real
            weighted = (chosen * q.gather(1, best)).sum(1, keepdim=True) + mass[:, -1:] * q[:, -1:]
            worth = weighted / (chosen.sum(1, keepdim=True) + mass[:, -1:])
        return gain, worth

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N): v_i (Qbar_i - l)."""
        state = self.state({"profile": profile, "context": context, "history": history})
        return self.ranked(*self.both(state), None)[0]


class SlateModule(WithTarget):
    """Shows the best slate; with probability epsilon a random one."""

    net: SlateNet

    def make(self) -> nn.Module:
        """Values and choice."""
        return SlateNet(self.shape, self.agent.network, self.agent.slate)

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """The best slate, or with probability epsilon any."""
        able = self.choosable(observation)
        q, choice = self.net.both(self.net.state(observation), observation.get("candidates"))
        gain, _ = self.net.ranked(q, choice, able)
        wanders = torch.rand(len(q), 1, generator=luck, device=q.device) < epsilon
        noise = torch.rand(gain.shape, generator=luck, device=q.device)
        noise = noise if able is None else noise.masked_fill(~able, -torch.inf)
        return {
            "slate": torch.where(wanders, noise, gain).topk(min(self.net.slate, gain.shape[1]), 1).indices
        }

    def to_columns(self, rollout: Columns) -> Columns:
        """Transitions of one request: ``item`` int64 (T * B, k), ``clicked`` int64 (T * B,), -1 for none."""
        found = n_step(rollout, 1, self.agent.gamma)
        return {name: x for name, x in found.items() if name not in ("slate", "done")}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state, item = self.net.state(batch), batch["item"]
        offered = batch.get("candidates")
        none = self.net.none_head(state)
        own = torch.cat([self.net.q_of(state, item, offered), self.net.value_head(state) + none[:, :1]], 1)
        choice = torch.cat(
            [self.net.match(self.net.choice_head(state), self.net.choice_bias, item), none[:, 1:]], 1
        ).clamp(-LARGEST, LARGEST)
        empty = functional.pad(item >= self.n_items, (0, 1))
        with torch.no_grad():
            ahead = following(batch)
            place, able = ahead.get("candidates"), self.choosable(ahead)
            _, beyond = self.target.ranked(*self.target.both(self.target.state(ahead), place), able)
        return {
            "q": own,
            "choice": choice.masked_fill(empty, -torch.inf),
            "beyond": beyond[:, 0],
        }


class SlateLearner(MarketLearner):
    """TD error of what was chosen, and the likelihood of the choice."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Huber loss of Qbar plus cross-entropy of the choice; notes the TD errors."""
        size = found["choice"].shape[1] - 1
        chosen = torch.where(columns["clicked"] < 0, size, columns["clicked"])
        q = found["q"].gather(1, chosen[:, None])[:, 0]
        wanted = columns["reward"] + columns["discount"] * found["beyond"]
        self.notes["errors"] = (wanted - q).detach()
        each = functional.smooth_l1_loss(q, wanted, reduction="none")
        each = each + functional.cross_entropy(found["choice"], chosen, reduction="none")
        return (each * columns["weight"]).mean() if "weight" in columns else each.mean()


class SlateQ(ReplayAlgorithm):
    """See the docstring of this module."""

    module, learner = SlateModule, SlateLearner

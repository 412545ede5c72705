"""DQN: double, duelling, n-step, with experience replay, uniform or prioritised, and a target network.

For requests t to t + m the target is (van Hasselt, Guez and Silver 2016, arXiv 1509.06461, eq. 4; over n
steps Hessel et al. 2018, arXiv 1710.02298)

    y = sum_{i<m} gamma^i r_{t+i} + gamma^m Q'(s_{t+m}, argmax_j Q(s_{t+m}, j)),   no second term who left,

with Q' a copy of Q that is renewed every ``target_update_every`` updates (Mnih et al. 2015). The loss is
Huber's between Q(s, i) and y, times the importance weight of prioritised replay (Schaul et al. 2016). One
action is one item shown alone; slates are drawn by Q when serving.

Where the catalogue is larger than ``network.full_catalogue``, the maximum is over some items drawn
uniformly, anew for each update, and so is the mean of the duelling network: Q is then the value of going on
with the best of that many random items, a lower bound of what serving's search over all of them can have.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.algorithm import ReplayAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.module import WithTarget, anything, following
from recloop.agents.network import Columns, TwoTower
from recloop.agents.returns import n_step


class QModule(WithTarget):
    """Epsilon-greedy on the Q values of single items."""

    net: TwoTower

    def make(self) -> nn.Module:
        """Q."""
        return TwoTower(self.shape, self.agent.network)

    def q(self, net: Any, observation: Columns) -> Tensor:
        """float32 (B, n): Q of what is offered."""
        return net.q(observation, observation.get("candidates"))

    def explore(self, observation: Columns, luck: torch.Generator, epsilon: float) -> Columns:
        """The item of the highest Q, or with probability epsilon any."""
        q = self.masked(self.q(self.net, observation), observation)
        people, size = q.shape
        chance = anything(self.choosable(observation), people, size, luck)
        wanders = torch.rand(people, generator=luck, device=q.device) < epsilon
        return {"slate": torch.where(wanders, chance, q.argmax(1))[:, None]}

    def to_columns(self, rollout: Columns) -> Columns:
        """n-step transitions, with ``item`` int64 (T * B,)."""
        found = n_step(rollout, self.agent.value.n_step, self.agent.gamma)
        kept = {name: x for name, x in found.items() if name not in ("slate", "clicked", "done")}
        return kept | {"item": found["item"][:, 0].clamp(max=self.n_items - 1)}

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        q = self.net.q_of(self.net.state(batch), batch["item"][:, None], batch.get("candidates"))
        return {"q": q[:, 0], "beyond": self.beyond(batch)}

    @torch.no_grad()
    def beyond(self, batch: Columns) -> Tensor:
        """float32 (B,): Q' of the item that is best by Q at the next observation."""
        ahead = following(batch)
        scores = self.net.scores(self.net.state(ahead), ahead.get("candidates"))
        best = self.named(self.masked(scores, ahead).argmax(1, keepdim=True), ahead)
        target: Any = self.target
        return target.q_of(target.state(ahead), best, ahead.get("candidates"))[:, 0]


class QLearner(MarketLearner):
    """The loss of this module's docstring."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Mean Huber loss; notes the TD errors."""
        wanted = columns["reward"] + columns["discount"] * found["beyond"]
        self.notes["errors"] = (wanted - found["q"]).detach()
        each = functional.smooth_l1_loss(found["q"], wanted, reduction="none")
        return (each * columns["weight"]).mean() if "weight" in columns else each.mean()


class DQN(ReplayAlgorithm):
    """See the docstring of this module."""

    module, learner = QModule, QLearner

"""Conservative Q-learning over discrete items (Kumar et al. 2020, arXiv 2006.04779, eq. 4, CQL(H)).

    minimise alpha E_log[ log sum_i exp Q(s, i) - Q(s, a) ] + DQN's loss on logged transitions

What the log seldom shows is held down, so that the maximum does not run to items whose value is a guess.
alpha = ``logs.conservatism``. Where the catalogue is large, the sum is over items drawn uniformly, times
their share (see ``logged.log_share``).
"""

from typing import Any

from torch import Tensor

from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.algorithms.dqn import QLearner, QModule
from recloop.agents.logged import log_share, passed_over
from recloop.agents.network import Columns


class ConservativeModule(QModule):
    """Also says Q of all items."""

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state, item, offered = self.net.state(batch), batch["item"][:, None], batch.get("candidates")
        every = self.net.q_of(state, offered, offered)
        own = every.gather(1, item) if offered is None else self.net.q_of(state, item, offered)
        return {"q": own[:, 0], "all": every, "beyond": self.beyond(batch)}


class ConservativeLearner(QLearner):
    """DQN's loss and the gap."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Their sum."""
        discount = self.agent.gamma * (~columns["done"]).float()
        error = super().loss(found, columns | {"discount": discount})
        others = passed_over(self.plain, found["all"], columns)
        item, own = columns["item"][:, None], found["q"][:, None]
        gap = -log_share(others, item, own, len(self.plain.shape.features)).mean()
        return error + self.agent.logs.conservatism * gap


class CQL(LogAlgorithm):
    """See the docstring of this module."""

    module, learner = ConservativeModule, ConservativeLearner
    ahead = True

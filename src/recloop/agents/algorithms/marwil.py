"""MARWIL, advantage-weighted imitation (Wang et al. 2018, "Exponentially weighted imitation learning for
batched historical data", algorithm 1).

    maximise E_log[ exp(beta A / c) log pi(a | s) ],   A = G - V(s),   c^2 = E[A^2]

G is the discounted return from the request on, the shown item's own reward in the first place; V is
fitted to G by least squares. c is of the batch. beta = ``logs.advantage_weight``; 0 is behaviour cloning.
"""

from torch import Tensor
from torch.nn import functional

from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.logged import LoggedPolicy, capped
from recloop.agents.network import Columns


class WeightedLearner(MarketLearner):
    """Weighted cross-entropy, and the critic's squared error."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Their sum, the critic's part times ``gradient.value_share``."""
        logs, advantage = self.agent.logs, columns["to_go"] - found["value"].detach()
        weight = capped(advantage / self.size(advantage), logs.advantage_weight, logs.weight_cap)
        critic = functional.mse_loss(found["value"], columns["to_go"])
        return self.agent.gradient.value_share * critic - (weight * found["log_probability"]).mean()


class Marwil(LogAlgorithm):
    """See the docstring of this module."""

    module, learner = LoggedPolicy, WeightedLearner

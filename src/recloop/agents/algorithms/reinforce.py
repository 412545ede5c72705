"""REINFORCE with a baseline (Williams 1992, "Simple statistical gradient-following algorithms", eq. 4).

    gradient = E[ (G_t - b(s_t)) grad log pi(A_t | s_t) ],   b fitted to G by least squares

pi draws slates by Plackett-Luce. G_t is the discounted return to the session's end; where the rollout
ends first, the baseline stands for the rest. One gradient step per rollout, since its rows are worth
nothing once the policy has moved.
"""

from torch import Tensor
from torch.nn import functional

from recloop.agents.actor_critic import ActorCritic
from recloop.agents.algorithm import RolloutAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.network import Columns


class PolicyGradientLearner(MarketLearner):
    """The score-function gradient, the baseline's squared error and an entropy bonus."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Their weighted sum."""
        gradient = self.agent.gradient
        actor = -(found["log_probability"] * columns["advantage"]).mean()
        critic = functional.mse_loss(found["value"], columns["target"])
        return actor + gradient.value_share * critic - gradient.entropy * found["entropy"].mean()


class Reinforce(RolloutAlgorithm):
    """See the docstring of this module."""

    module, learner = ActorCritic, PolicyGradientLearner
    whole = True

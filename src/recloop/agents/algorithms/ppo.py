"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347, eq. 7 and 9).

    maximise E[ min(q A, clip(q, 1 - c, 1 + c) A) ] - value_share (V - V_target)^2 + entropy H(pi)
    q = pi / pi_old

A is the generalised advantage estimate with lambda = ``gradient.gae_lambda``, standardised over the
rollout; pi draws slates by Plackett-Luce, and q is of whole slates. ``gradient.epochs`` passes over each.
"""

import torch
from torch import Tensor
from torch.nn import functional

from recloop.agents.actor_critic import ActorCritic
from recloop.agents.algorithm import RolloutAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.network import Columns


class ProximalModule(ActorCritic):
    """With the advantages' lambda of the parameters."""

    def setup(self) -> None:
        """Read it."""
        super().setup()
        self.keep = self.agent.gradient.gae_lambda


class ProximalLearner(MarketLearner):
    """The clipped objective."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Actor, critic and entropy."""
        gradient, advantage = self.agent.gradient, columns["advantage"]
        ratio = (found["log_probability"] - columns["log_probability"]).exp()
        clipped = ratio.clamp(1 - gradient.clip, 1 + gradient.clip)
        actor = -torch.minimum(ratio * advantage, clipped * advantage).mean()
        critic = functional.mse_loss(found["value"], columns["target"])
        return actor + gradient.value_share * critic - gradient.entropy * found["entropy"].mean()


class PPO(RolloutAlgorithm):
    """See the docstring of this module."""

    module, learner = ProximalModule, ProximalLearner

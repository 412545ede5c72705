"""Advantage actor-critic, synchronous (Mnih et al. 2016, arXiv 1602.01783, section 4 and algorithm S3).

    gradient = E[ A(s_t, A_t) grad log pi(A_t | s_t) ]
    A = sum_{i<m} gamma^i r_{t+i} + gamma^m V(s_{t+m}) - V(s_t)

m runs to the end of the rollout, of 5 requests of everyone; a gradient step on each rollout.
"""

from recloop.agents.actor_critic import ActorCritic
from recloop.agents.algorithm import RolloutAlgorithm
from recloop.agents.algorithms.reinforce import PolicyGradientLearner


class A2C(RolloutAlgorithm):
    """See the docstring of this module."""

    module, learner = ActorCritic, PolicyGradientLearner
    whole = True
    steps = 5

"""Behaviour cloning (Pomerleau 1989): maximise E_log[ log pi(a | s) ] over the items that were shown.

It learns what was shown, not what was good: the figure that everything else learnt from a log must beat.
"""

from torch import Tensor

from recloop.agents.algorithm import LogAlgorithm
from recloop.agents.learner import MarketLearner
from recloop.agents.logged import LoggedPolicy
from recloop.agents.network import Columns


class CloningLearner(MarketLearner):
    """Cross-entropy."""

    def loss(self, found: Columns, columns: Columns) -> Tensor:
        """Mean over the rows."""
        return -found["log_probability"].mean()


class BC(LogAlgorithm):
    """See the docstring of this module."""

    module, learner = LoggedPolicy, CloningLearner

"""Watch: whether people, rewards and the log are still as they were, and who is told when not.

Another alert is a function in ``rules`` and its line in ``RULES``; ``rollouts`` has those of rollouts.
"""

from recloop.experiments.drift import Drift, categories_drift, numbers_drift
from recloop.watch.look import Figures, Limits, look
from recloop.watch.notify import NotifyError, notify, raised
from recloop.watch.rollouts import ended_badly, tell
from recloop.watch.rules import Alert, check, evaluate_rules

__all__ = [
    "Alert",
    "Drift",
    "Figures",
    "Limits",
    "NotifyError",
    "categories_drift",
    "check",
    "ended_badly",
    "evaluate_rules",
    "look",
    "notify",
    "numbers_drift",
    "raised",
    "tell",
]

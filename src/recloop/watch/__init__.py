"""Watch: whether people, rewards and the log are still as they were, and who is told when not.

Another alert is a function in ``rules`` and its line in ``RULES``.
"""

from recloop.watch.drift import Drift, categories_drift, numbers_drift
from recloop.watch.look import Figures, Limits, look
from recloop.watch.notify import NotifyError, notify, raised
from recloop.watch.rules import Alert, check, evaluate_rules

__all__ = [
    "Alert",
    "Drift",
    "Figures",
    "Limits",
    "NotifyError",
    "categories_drift",
    "check",
    "evaluate_rules",
    "look",
    "notify",
    "numbers_drift",
    "raised",
]

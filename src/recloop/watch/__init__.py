"""Watch: whether people, rewards and the log are still as they were, and who is told when not.

Another alert is a ``Rule`` in ``rules``.
"""

from recloop.experiments.drift import Drift, categories_drift, numbers_drift
from recloop.watch.check import check
from recloop.watch.notify import NotifyError, acknowledge, notify, raised, silence, standing
from recloop.watch.rollouts import tell
from recloop.watch.rules import Alert, Rule, evaluate, rules

__all__ = [
    "Alert",
    "Drift",
    "NotifyError",
    "Rule",
    "acknowledge",
    "categories_drift",
    "check",
    "evaluate",
    "notify",
    "numbers_drift",
    "raised",
    "rules",
    "silence",
    "standing",
    "tell",
]

"""Watch: whether people, rewards and the log are still as they were, and who is told when not.

Another alert is a ``Rule`` in ``rules``; ``rollouts`` has those of rollouts.
"""

from recloop.experiments.drift import Drift, categories_drift, numbers_drift
from recloop.watch.check import check
from recloop.watch.notify import NotifyError, acknowledge, notify, raised, silence, standing
from recloop.watch.rollouts import ended_badly, tell
from recloop.watch.rules import Alert, Rule, evaluate, rules

__all__ = [
    "Alert",
    "Drift",
    "NotifyError",
    "Rule",
    "acknowledge",
    "categories_drift",
    "check",
    "ended_badly",
    "evaluate",
    "notify",
    "numbers_drift",
    "raised",
    "rules",
    "silence",
    "standing",
    "tell",
]

"""Watch: whether people, rewards and the log are still as they were, and who is told when not.

Another alert is a ``Rule`` in ``rules``.
"""

from recloop.watch.check import check
from recloop.watch.notify import NotifyError, acknowledge, notify, raised, silence, standing
from recloop.watch.rollouts import tell
from recloop.watch.rules import Alert, Rule, evaluate, rules

__all__ = [
    "Alert",
    "NotifyError",
    "Rule",
    "acknowledge",
    "check",
    "evaluate",
    "notify",
    "raised",
    "rules",
    "silence",
    "standing",
    "tell",
]

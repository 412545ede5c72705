"""Alerts on rollouts that a gate has ended."""

from collections.abc import Sequence

from sqlalchemy import Engine

from recloop.delivery import rollout
from recloop.delivery.rollout import Rollout
from recloop.schema import now_us
from recloop.watch.notify import notify
from recloop.watch.rules import Alert

LATE_US = 6 * 3_600_000_000  # who was not told by then is told by the dashboard


def ended_badly(engine: Engine, now: int | None = None) -> list[Alert]:
    """Of the newest rollouts, those that a gate refused lately, or rolled back after the switch."""
    since = (now_us() if now is None else now) - LATE_US
    found = (_alert(engine, one, since) for one in rollout.history(engine, 5))
    return [alert for alert in found if alert is not None]


def tell(engine: Engine, urls: Sequence[str]) -> list[Alert]:
    """Send what ``ended_badly`` finds, each once; returns what was new.

    Raises:
        NotifyError: as ``notify``.
    """
    return notify(engine, ended_badly(engine), urls, ("rollout",))


def _alert(engine: Engine, one: Rollout, since: int) -> Alert | None:
    last = next(iter(rollout.transitions_of(engine, one.id, 1)), None)
    if last is None or last.ts < since or one.state not in ("refused", "rolled_back"):
        return None
    figures = {name: x for name, x in last.figures.items() if isinstance(x, int | float)}
    summary = f"{one.challenger} gave its people back to {one.champion}: {last.why}"
    return Alert(f"rollout-{one.id}-{one.state}", "critical", summary, figures, "rollout")

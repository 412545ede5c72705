"""One message to every address, through Apprise."""

from collections.abc import Sequence

import apprise

from recloop.watch import kakaowork
from recloop.watch.rules import Alert

TYPES = {"warning": apprise.NotifyType.WARNING, "critical": apprise.NotifyType.FAILURE}
SHOWN = 20  # alerts that a message has a line for
TITLES = 3  # and that its title names


class NotifyError(RuntimeError):
    """An address is not understood, or somebody could not be told. Addresses hold secrets: none is named."""


def send(alerts: Sequence[Alert], urls: Sequence[str], over: bool = False) -> None:
    """What is wrong, or was and is ``over``.

    Raises:
        NotifyError: an address is not understood, or nobody or not everybody could be told.
    """
    sender = _sender(urls)
    lines = [f"{alert.severity}: {alert.summary}\n  {runbook(alert)}" for alert in alerts[:SHOWN]]
    if more := len(alerts) - len(lines):
        lines.append(f"and {more} more: `recloop alert list`")
    names = list(dict.fromkeys(alert.rule for alert in alerts))
    title = ", ".join(names[:TITLES]) + (f" and {len(names) - TITLES} more" if len(names) > TITLES else "")
    worst = "critical" if any(alert.severity == "critical" for alert in alerts) else "warning"
    kind = apprise.NotifyType.SUCCESS if over else TYPES[worst]
    body = "all of this is over:\n" + "\n".join(lines) if over else "\n".join(lines)
    if not sender.notify(body, f"recloop: {title}{' (over)' if over else ''}", kind):
        raise NotifyError("the alert could not be delivered to every address: check them and the network")


def require(urls: Sequence[str]) -> None:
    """Nothing, if every address is understood.

    Raises:
        NotifyError: one is not.
    """
    _sender(urls)


def _sender(urls: Sequence[str]) -> apprise.Apprise:
    kakaowork.register()
    sender = apprise.Apprise()
    for number, url in enumerate(urls, 1):
        if not sender.add(url):
            raise NotifyError(
                f"alert address number {number} is not understood: see Apprise's list of services"
            )
    return sender


def runbook(alert: Alert) -> str:
    """Where its page is, in the project."""
    return f"docs/runbooks/{alert.rule}.md"

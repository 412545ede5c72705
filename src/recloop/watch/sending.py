"""One message to every address, through Apprise."""

from collections.abc import Sequence
from typing import Literal

import apprise
from apprise.common import NotifyFormat, OverflowMode

from recloop.settings import places
from recloop.watch import kakaowork
from recloop.watch.rules import Alert

TYPES = {"warning": apprise.NotifyType.WARNING, "critical": apprise.NotifyType.FAILURE}
SHOWN = 20  # alerts that a message has a line for
TITLES = 3  # and that its title names
WORDS = {
    "en": {
        "critical": "critical", "warning": "warning", "more": "and {} more: `recloop alert list`",
        "others": " and {} more", "over": "all of this is over:", "ended": " (over)",
    },
    "ko": {
        "critical": "심각", "warning": "주의", "more": "그 밖에 {}건: `recloop alert list`",
        "others": " 외 {}건", "over": "다음은 모두 해소되었습니다:", "ended": " (해소)",
    },
}  # fmt: skip


class NotifyError(RuntimeError):
    """An address is not understood, or somebody could not be told. Addresses hold secrets: none is named."""


def send(alerts: Sequence[Alert], urls: Sequence[str], over: bool = False) -> None:
    """What is wrong, or was and is ``over``.

    Raises:
        NotifyError: an address is not understood, or nobody or not everybody could be told.
    """
    sender = _sender(urls)
    title, body = worded(alerts, over, places().alert_language)
    worst = "critical" if any(alert.severity == "critical" for alert in alerts) else "warning"
    kind = apprise.NotifyType.SUCCESS if over else TYPES[worst]
    if not sender.notify(body, title, kind, body_format=NotifyFormat.TEXT):
        raise NotifyError("the alert could not be delivered to every address: check them and the network")


def worded(alerts: Sequence[Alert], over: bool, language: Literal["en", "ko"]) -> tuple[str, str]:
    """Title and text of the message."""
    words = WORDS[language]
    lines = []
    for alert in alerts[:SHOWN]:
        told = alert.summary if language == "en" else alert.told(language)
        lines.append(f"{words[alert.severity]}: {told}\n  {runbook(alert)}")
    if more := len(alerts) - len(lines):
        lines.append(words["more"].format(more))
    names = list(dict.fromkeys(alert.rule for alert in alerts))
    title = "recloop: " + ", ".join(names[:TITLES])
    if len(names) > TITLES:
        title += words["others"].format(len(names) - TITLES)
    return (title + words["ended"], "\n".join([words["over"], *lines])) if over else (title, "\n".join(lines))


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
        server = apprise.Apprise.instantiate(url)
        if server is None or not sender.add(server):
            raise NotifyError(
                f"alert address number {number} is not understood: see Apprise's list of services"
            )
        if server.overflow_mode == OverflowMode.UPSTREAM:  # which refuses what is too long
            server.overflow_mode = OverflowMode.SPLIT
        if server.notify_format == NotifyFormat.HTML:  # as e-mail: its lines would not wrap
            server.notify_format = NotifyFormat.TEXT
    return sender


def runbook(alert: Alert) -> str:
    """Where its page is, in the project."""
    return f"docs/runbooks/{alert.rule}.md"

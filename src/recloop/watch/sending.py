"""What a message says, and how an address gets it: through Apprise."""

from collections.abc import Sequence
from typing import NamedTuple

import apprise
from apprise.common import NotifyFormat, OverflowMode

from recloop.settings import places
from recloop.watch import kakaowork
from recloop.watch.rules import Alert

OVER = apprise.NotifyType.SUCCESS.value
TYPES = {"warning": apprise.NotifyType.WARNING.value, "critical": apprise.NotifyType.FAILURE.value}
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
    """An address is not understood, or people could not be told. Addresses hold secrets: none is named."""


class Message(NamedTuple):
    """As every address gets it; ``kind`` is Apprise's type."""

    title: str
    body: str
    kind: str


def send(alerts: Sequence[Alert], urls: Sequence[str]) -> list[int]:
    """What is wrong; as ``post``."""
    return post(worded(alerts), urls)


def post(message: Message, urls: Sequence[str]) -> list[int]:
    """To every address; returns the places in ``urls`` of those that did not take it.

    Raises:
        NotifyError: an address is not understood, or none took it.
    """
    failed = []
    for place, server in enumerate(_servers(urls)):
        sender = apprise.Apprise()
        sender.add(server)
        kind = apprise.NotifyType(message.kind)
        if not sender.notify(message.body, message.title, kind, body_format=NotifyFormat.TEXT):
            failed.append(place)
    if failed and len(failed) == len(urls):
        raise NotifyError("the alert could not be delivered to any address: check them and the network")
    return failed


def worded(alerts: Sequence[Alert], over: bool = False) -> Message:
    """What is wrong, or was and is ``over``, in the language of RECLOOP_ALERT_LANGUAGE."""
    language = places().alert_language
    words, lines = WORDS[language], []
    for alert in alerts[:SHOWN]:
        told = alert.summary if language == "en" else alert.told(language)
        lines.append(f"{words[alert.severity]}: {told}\n  {runbook(alert)}")
    if more := len(alerts) - len(lines):
        lines.append(words["more"].format(more))
    names = list(dict.fromkeys(alert.rule for alert in alerts))
    title = "recloop: " + ", ".join(names[:TITLES])
    if len(names) > TITLES:
        title += words["others"].format(len(names) - TITLES)
    if over:
        return Message(title + words["ended"], "\n".join([words["over"], *lines]), OVER)
    worst = "critical" if any(alert.severity == "critical" for alert in alerts) else "warning"
    return Message(title, "\n".join(lines), TYPES[worst])


def require(urls: Sequence[str]) -> None:
    """Nothing, if every address is understood.

    Raises:
        NotifyError: one is not.
    """
    _servers(urls)


def _servers(urls: Sequence[str]) -> list[apprise.NotifyBase]:
    kakaowork.register()
    found = []
    for number, url in enumerate(urls, 1):
        server = apprise.Apprise.instantiate(url)
        if server is None:
            raise NotifyError(
                f"alert address number {number} is not understood: see Apprise's list of services"
            )
        if server.overflow_mode == OverflowMode.UPSTREAM:  # which refuses what is too long
            server.overflow_mode = OverflowMode.SPLIT
        if server.notify_format == NotifyFormat.HTML:  # as e-mail: its lines would not wrap
            server.notify_format = NotifyFormat.TEXT
        found.append(server)
    return found


def runbook(alert: Alert) -> str:
    """Where its page is, in the project."""
    return f"docs/runbooks/{alert.rule}.md"

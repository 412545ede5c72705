"""KakaoWork's incoming webhook for Apprise: ``kakaowork://kakaowork.com/bots/hook/TOKEN``.

It takes ``POST {"text": …}`` as JSON. A text longer than ``LONGEST`` goes in several messages.
"""

from typing import Any

from apprise.common import OverflowMode
from apprise.manager_plugins import NotificationManager
from apprise.plugins.custom_json import NotifyJSON

LONGEST = 500  # characters, what programs that use it keep to
PLAIN = "kakaoworkhttp"  # without TLS, for a proxy on this machine


class KakaoWork(NotifyJSON):
    """The one field that it has."""

    service_name = "KakaoWork"
    protocol = PLAIN
    secure_protocol = "kakaowork"
    title_maxlen = 0  # it stands before the text
    body_maxlen = LONGEST
    overflow_mode = OverflowMode.SPLIT

    @staticmethod
    def parse_url(url: str, *_: Any, **__: Any) -> dict[str, Any] | None:
        """As Apprise asks for it; where it knows no better, TLS is what a schema that ends with s has."""
        found: dict[str, Any] | None = NotifyJSON.parse_url(url)
        if found:
            found["secure"] = found["schema"] != PLAIN
            found["payload"] = {"message": "text", "title": "", "type": "", "version": "", "attachments": ""}
        return found


def register() -> None:
    """Let Apprise know it, once."""
    plugins = NotificationManager()
    if KakaoWork.secure_protocol not in plugins:
        plugins.add(KakaoWork, schemas=(KakaoWork.secure_protocol, PLAIN))

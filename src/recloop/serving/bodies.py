"""What is sent as a message, or a ``Problem`` that says why not; and JSON as an answer."""

from typing import TypeVar

import msgspec
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive

from recloop.serving.messages import UNREADABLE, Refusal, refusal

BODY_LIMIT = 64 * 1024
Parsed = TypeVar("Parsed")


class Problem(Exception):
    """Ends the handling of a request with an answer that says why."""

    def __init__(self, status: int, error: str, field: str = "") -> None:
        super().__init__(error)
        self.status, self.refusal = status, Refusal(error, field)


def answer(content: object, status: int = 200) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def body_of(receive: Receive) -> bytes:
    """The body, counted as it comes, whatever its header says; raises ``Problem``, ``ClientDisconnect``."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        body += message.get("body", b"")
        if len(body) > BODY_LIMIT:
            raise Problem(413, f"the body is longer than {BODY_LIMIT} bytes", "body")
        more = message.get("more_body", False)
    return bytes(body)


async def parsed(receive: Receive, decoder: msgspec.json.Decoder[Parsed]) -> Parsed:
    """The body as a message; raises ``Problem``."""
    body = await body_of(receive)
    try:
        return decoder.decode(body)
    except UNREADABLE as error:
        status, found = refusal(error, body)
        raise Problem(status, found.error, found.field) from error

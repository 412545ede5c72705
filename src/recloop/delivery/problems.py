"""What is wrong with a request, as an answer that names it; the same shape as a slot's refusals."""

import asyncio
from typing import TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from recloop.serving.messages import UNREADABLE, Refusal, refusal

T = TypeVar("T")
BODY_SECONDS = 10.0  # who sends slower holds a place that others want


class Problem(HTTPException):
    """Ends the handling of a request with a ``Refusal``; ``later`` asks to try again in a second.

    ``body``: what was sent, as far as it was read, where that could not be understood.
    """

    def __init__(
        self, status: int, error: str, field: str = "", later: bool = False, body: bytes = b""
    ) -> None:
        super().__init__(status, error, {"retry-after": "1"} if later else None)
        self.field, self.body = field, body


def decoded(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """The body as the decoder's type.

    Raises:
        Problem: 400 where it is no JSON, 422 where a field is unknown, missing or wrong.
    """
    try:
        return decoder.decode(raw)
    except UNREADABLE as error:
        status, found = refusal(error, raw)
        raise Problem(status, found.error, found.field, body=raw) from error


async def require_json(request: Request, limit: int) -> bytes:
    """The body of a request that says that it is JSON: a foreign page cannot send that without asking.

    Raises:
        Problem: 415, or as ``body_of``.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "send JSON, with the header content-type: application/json", "content-type")
    return await body_of(request, limit)


async def body_of(request: Request, limit: int) -> bytes:
    """The body, counted as it comes, whatever its header says.

    Raises:
        Problem: 413 above ``limit`` bytes, 408 where it does not come.
    """
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for part in request.stream():
                body += part
                if len(body) > limit:
                    why = f"the body is longer than {limit} bytes"
                    raise Problem(413, why, "body", body=bytes(body[:limit]))
    except TimeoutError as error:
        raise Problem(408, f"the body did not come within {BODY_SECONDS:.0f} s", "body") from error
    return bytes(body)


async def explain(_: Request, error: Exception) -> Response:
    """The answer for an ``HTTPException``."""
    assert isinstance(error, HTTPException)
    body = msgspec.json.encode(Refusal(error.detail, getattr(error, "field", "")))
    return Response(body, error.status_code, error.headers, "application/json")

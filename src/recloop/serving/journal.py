"""Logs as JSON lines that name no person, and a request's id from its first line to its impressions."""

import json
import logging
import re
import sys
import time
import traceback
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recloop.serving.guard import header, refuse, route_of

log = logging.getLogger("recloop.requests")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
REFUSED = (401, 403, 429)


class JsonLines(logging.Formatter):
    """One object a line. Of an exception it has the type and the places, since messages quote values.

    For the same reason a message of other libraries stands there without what they would put in.
    """

    def format(self, record: logging.LogRecord) -> str:
        own = record.name.split(".")[0] == "recloop"
        row: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage() if own else str(record.msg).partition("\n")[0],
        }
        row |= getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            row |= described(record.exc_info[1])
        return json.dumps(row, ensure_ascii=False)


def described(error: BaseException) -> dict[str, object]:
    """Type and places of an exception."""
    frames = traceback.extract_tb(error.__traceback__)
    return {"error": type(error).__name__, "places": [f"{f.filename}:{f.lineno}" for f in frames]}


def log_as_json(logger: str, level: str) -> None:
    """From now on this logger, "" for all, writes JSON lines on standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    found = logging.getLogger(logger or None)
    found.handlers, found.propagate = [handler], False
    found.setLevel(level.upper())
    logging.raiseExceptions = False  # else a line that cannot be written is shown with all that it was given


class Journal:
    """ASGI middleware: gives a request its id (``scope["recloop.id"]``, header X-Request-Id) and logs it.

    A line has id, method, route, status, milliseconds and the token's name; where a gateway asked, also
    its request's id, as ``for``. Never a path, query, header, address or body. What the app fails at is
    logged and answered with 500. Refusals for want of a right are warnings, failures errors, all else info.
    """

    def __init__(self, app: ASGIApp, routes: Mapping[str, str]) -> None:
        self._app, self._routes = app, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0
        request_id = scope["recloop.id"] = uuid.uuid4().hex

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = message.setdefault("headers", [])
                if not any(name == b"x-request-id" for name, _ in headers):
                    message["headers"] = [*headers, (b"x-request-id", request_id.encode())]
            await send(message)

        failed: dict[str, object] = {}
        try:
            await self._app(scope, receive, noted)
        except Exception as error:
            failed = described(error)
            if status:
                raise  # half an answer is out: the server must cut it
            await refuse(500, f"this failed; the log has it as {request_id}", "")(scope, receive, noted)
        finally:
            level = logging.ERROR if failed or status >= 500 else logging.INFO
            if status in REFUSED:
                level = logging.WARNING
            if log.isEnabledFor(level):
                fields = self._fields(scope, status) | {"ms": round(1000 * (time.perf_counter() - begun), 1)}
                log.log(level, "request", extra={"fields": fields | failed})

    def _fields(self, scope: Scope, status: int) -> dict[str, object]:
        fields: dict[str, object] = {
            "id": scope["recloop.id"],
            "method": scope["method"] if scope["method"] in METHODS else "other",
            "route": route_of(scope["path"], self._routes),
            "status": status,
            "who": scope.get("recloop.who", ""),
        }
        asked_for = header(scope, b"x-request-id") or ""
        if re.fullmatch("[0-9a-f]{32}", asked_for):  # as a gateway makes them; anything else may be a name
            fields["for"] = asked_for
        return fields

"""Who may ask for what, and how often: stands before an app, and lets in only what is allowed."""

import base64
import binascii
from collections.abc import Mapping
from math import ceil

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from recloop.serving.limits import Buckets, client_key
from recloop.serving.messages import Refusal
from recloop.settings.tokens import LOOPBACK, OPERATE, Grant, Tokens

OPEN = ""  # the scope of a route that tells nothing and changes nothing
CHALLENGE = 'Bearer realm="recloop", Basic realm="recloop", charset="UTF-8"'


class Guard:
    """ASGI middleware.

    ``routes``: per path, or first part of it ending in ``/*``, the scope that a token needs; a path that
    is not named needs ``operate``. With a method before it, as in ``GET /items``, it is for that method alone
    (HEAD asks what GET asks). ``free``: scopes for which no token is asked. ``rate``: requests per
    second of one token, or of one client without a token; None: any number.
    """

    def __init__(
        self,
        app: ASGIApp,
        tokens: Tokens,
        routes: Mapping[str, str],
        free: frozenset[str],
        rate: float | None = None,
    ) -> None:
        self._app, self._tokens, self._routes, self._free = app, tokens, routes, free | {OPEN}
        self._buckets = None if rate is None else Buckets(rate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        needed = self._needed(scope["method"], route_of(scope["path"], self._routes))
        grant = self._grant(header(scope, b"authorization") or "")
        scope["recloop.who"] = grant.name if grant else ""
        if refused := self._too_often(scope, grant) or self._refusal(needed, grant):
            await refused(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _needed(self, method: str, route: str) -> str:
        of_all = self._routes.get(route, OPERATE)
        return self._routes.get(f"{'GET' if method == 'HEAD' else method} {route}", of_all)

    def _too_often(self, scope: Scope, grant: Grant | None) -> Response | None:
        if self._buckets is None:
            return None
        address = scope["client"][0] if scope.get("client") else ""
        wait = self._buckets.wait(f"token {grant.sha256}" if grant else client_key(address))
        if not wait:
            return None
        return refuse(429, "too many requests: send it again later", "", {"retry-after": f"{ceil(wait)}"})

    def _refusal(self, needed: str, grant: Grant | None) -> Response | None:
        if needed in self._free:
            return None
        if grant is None:
            why = f"this needs a token with the scope {needed}: Authorization: Bearer ..."
            return refuse(401, why, "authorization", {"www-authenticate": CHALLENGE})
        if needed not in grant.scopes:
            return refuse(403, f"the token lacks the scope {needed}", "authorization")
        return None

    def _grant(self, sent: str) -> Grant | None:
        token = token_in(sent)
        return self._tokens.grant_of(token) if token else None


def header(scope: Scope, name: bytes) -> str | None:
    """A request's header of that name, which is in small letters as ASGI has it; the first of several."""
    for key, value in scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def free_scopes(host: str, wanted: frozenset[str]) -> frozenset[str]:
    """The scopes for which an app that listens on ``host`` asks no token: none beyond loopback."""
    return wanted - {OPERATE} if host in LOOPBACK else frozenset()


def route_of(path: str, routes: Mapping[str, object]) -> str:
    """The entry of ``routes`` that the path belongs to; "unknown" where there is none."""
    if path in routes:
        return path
    wide = f"/{path.lstrip('/').partition('/')[0]}/*"
    return wide if wide in routes else "unknown"


def token_in(sent: str) -> str:
    """The token of an ``Authorization`` header: Bearer, or the password of Basic, as browsers ask for it."""
    kind, _, rest = sent.partition(" ")
    if kind.lower() == "bearer":
        return rest.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(rest, validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def refuse(status: int, error: str, field: str, headers: Mapping[str, str] | None = None) -> Response:
    """A ``Refusal`` as an answer."""
    return Response(msgspec.json.encode(Refusal(error, field)), status, headers, "application/json")

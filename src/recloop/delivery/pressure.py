"""Back-pressure: so many requests at once, the others are told to come back, and memory stays bounded."""

from collections import Counter
from collections.abc import Callable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from recloop.serving.guard import refuse, route_of


class Pressure:
    """ASGI middleware: above ``most`` requests of a route under way, the answer is 429 before a byte is read.

    ``most``: per path or first part ending in ``/*``; a path that is not named is not limited.
    ``refused`` hears the path.
    """

    def __init__(self, app: ASGIApp, most: Mapping[str, int], refused: Callable[[str], None]) -> None:
        self._app, self._most, self._refused = app, most, refused
        self._inside: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = route_of(scope["path"], self._most) if scope["type"] == "http" else "unknown"
        if route not in self._most:
            await self._app(scope, receive, send)
        elif self._inside[route] >= self._most[route]:
            self._refused(route)
            why = f"{self._most[route]} requests are under way: send it again later"
            await refuse(429, why, "", {"retry-after": "1"})(scope, receive, send)
        else:
            self._inside[route] += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._inside[route] -= 1

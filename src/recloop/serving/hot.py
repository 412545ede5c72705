"""``POST /recommend`` from bytes to bytes, without router, request or response objects."""

import re

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Receive, Scope, Send

from recloop.policy import NothingLeft
from recloop.schema import Slate
from recloop.serving.bodies import Problem, answer, parsed
from recloop.serving.guard import header
from recloop.serving.messages import HISTORY, IDENTIFIER, STRANGERS, Ask
from recloop.serving.recommender import Recommender

IS_IDENTIFIER = re.compile(IDENTIFIER)
JSON = (b"content-type", b"application/json")


class Straight:
    """ASGI middleware: a POST to ``path`` goes to ``hot`` and not by the app's router."""

    def __init__(self, app: ASGIApp, path: str, hot: ASGIApp) -> None:
        self._app, self._path, self._hot = app, path, hot

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        hot = scope["type"] == "http" and scope["path"] == self._path and scope["method"] == "POST"
        await (self._hot if hot else self._app)(scope, receive, send)


class Recommend:
    """The ASGI app of the route; ``quick``: on the event loop, else in a thread."""

    def __init__(self, recommender: Recommender, quick: bool) -> None:
        self._recommender, self._quick = recommender, quick
        self._ask, self._encoder = msgspec.json.Decoder(Ask), msgspec.json.Encoder()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            slate, history = await self._slate(scope, receive)
        except Problem as problem:
            self._recommender.meters.refused(problem)
            await answer(problem.refusal, problem.status)(scope, receive, send)
            return
        body = self._encoder.encode(slate.__dict__)
        headers = [(b"content-length", b"%d" % len(body)), JSON]
        if history in STRANGERS:
            headers.append((HISTORY.encode(), history.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _slate(self, scope: Scope, receive: Receive) -> tuple[Slate, str]:
        sent = header(scope, b"x-request-id")
        request_id: str = scope["recloop.id"] if sent is None else sent
        if not IS_IDENTIFIER.search(request_id):
            raise Problem(422, f"X-Request-Id must match {IDENTIFIER}", "X-Request-Id")
        wanted = await parsed(receive, self._ask)
        moment = wanted.context
        given = request_id, wanted.user_id, moment.device, moment.ts, wanted.k, wanted.exclude
        try:
            if self._quick:
                return self._recommender.recommend(*given)
            return await run_in_threadpool(self._recommender.recommend, *given)
        except NothingLeft as error:
            raise Problem(422, str(error), "exclude") from error

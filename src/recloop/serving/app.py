"""The slot over HTTP: an ASGI app that BentoML mounts, or that runs by itself."""

import os
import re
import uuid
from pathlib import Path
from typing import TypeVar

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from recloop.policy import NothingLeft, load
from recloop.schema import Event, now_us
from recloop.serving.guard import OPEN, Guard, free_scopes
from recloop.serving.journal import Journal
from recloop.serving.messages import IDENTIFIER, Ask, Feedback, Refusal, refusal
from recloop.serving.openapi import DOCUMENT, PAGE
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Places, Tokens, require_tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import StoreError

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


async def body_of(request: Request) -> bytes:
    """The body, counted as it comes, whatever its header says; raises ``Problem``."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise Problem(413, f"the body is longer than {BODY_LIMIT} bytes", "body")
        parts.append(part)
    return b"".join(parts)


async def parsed(request: Request, decoder: msgspec.json.Decoder[Parsed]) -> Parsed:
    """The body as a message; raises ``Problem``."""
    body = await body_of(request)
    try:
        return decoder.decode(body)
    except msgspec.MsgspecError as error:
        found = refusal(error, body)
        status = 422 if isinstance(error, msgspec.ValidationError) else 400
        raise Problem(status, found.error, found.field) from error
    except UnicodeDecodeError as error:
        raise Problem(400, f"the body is not UTF-8: {error.reason}", "body") from error


async def explain(_: Request, problem: Exception) -> Response:
    """The answer for a ``Problem``."""
    assert isinstance(problem, Problem)
    return answer(problem.refusal, problem.status)


SCOPES = {
    "/recommend": READ,
    "/feedback": FEEDBACK,
    "/policy": READ,
    "/openapi.json": OPEN,
    "/docs.json": OPEN,
    "/": OPEN,
}


def create_app(
    recommender: Recommender, tokens: Tokens, free: frozenset[str], rate: float | None = None
) -> Starlette:
    """The routes of one slot; tokens, ``free`` and ``rate`` as in ``Guard``."""
    ask, act = msgspec.json.Decoder(Ask), msgspec.json.Decoder(Feedback)
    manifest, quick = recommender.policy.manifest, recommender.is_quick()

    async def recommend(request: Request) -> Response:
        request_id = _request_id(request)
        wanted = await parsed(request, ask)
        moment = wanted.context
        given = request_id, wanted.user_id, moment.device, moment.ts, wanted.k, wanted.exclude
        try:
            if quick:
                slate = recommender.recommend(*given)
            else:
                slate = await run_in_threadpool(recommender.recommend, *given)
        except NothingLeft as error:
            raise Problem(422, str(error), "exclude") from error
        return answer(slate.__dict__)

    async def feedback(request: Request) -> Response:
        event = _event(await parsed(request, act))
        try:
            kept = await run_in_threadpool(recommender.past.keep, event)
        except StoreError as error:
            raise Problem(503, f"{error}. Send it again later") from error
        return answer({"accepted": kept, "event_id": event.event_id})

    async def describe(_: Request) -> Response:
        return answer(manifest.model_dump() | {"name": manifest.name})

    async def openapi(_: Request) -> Response:
        return answer(DOCUMENT)

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    return Starlette(
        routes=[
            Route("/recommend", recommend, methods=["POST"]),
            Route("/feedback", feedback, methods=["POST"]),
            Route("/policy", describe),
            Route("/openapi.json", openapi),
            Route("/docs.json", openapi),  # where BentoML would describe its own, and has none
            Route("/", page),
        ],
        middleware=[Middleware(Journal, SCOPES), Middleware(Guard, tokens, SCOPES, free, rate)],
        exception_handlers={Problem: explain},
    )


def _request_id(request: Request) -> str:
    sent = request.headers.get("x-request-id")
    if sent is not None and not re.search(IDENTIFIER, sent):
        raise Problem(422, f"X-Request-Id must match {IDENTIFIER}", "X-Request-Id")
    return sent or uuid.uuid4().hex


def _event(sent: Feedback) -> Event:
    return Event(
        event_id=sent.event_id or uuid.uuid4().hex,
        user_id=sent.user_id,
        item_id=sent.item_id,
        kind=sent.kind,
        value=sent.value,
        request_id=sent.request_id,
        ts=now_us() if sent.ts is None else sent.ts,
    )


def app_from_environment(folder: Path) -> Starlette:
    """The slot of a policy's folder, with store and tokens as the environment names them.

    RECLOOP_SLOT_HOST says where it listens; whoever starts it must say so. On loopback slates are free, and
    so is feedback as long as there are no tokens at all.

    Raises:
        ArtefactError: the policy is not what its manifest describes; the slot must not start.
        TokenError: it can be reached from elsewhere, and there are no tokens.
    """
    here = Places()  # type: ignore[call-arg]
    host, tokens = os.environ.get("RECLOOP_SLOT_HOST", ""), here.tokens
    require_tokens(host, tokens)
    free = free_scopes(host, frozenset({READ} if tokens.grants else {READ, FEEDBACK}))
    past = Past(os.environ.get("RECLOOP_STORE_URL", ""))
    return create_app(Recommender(load(folder), past), tokens, free, here.rate_at(host))

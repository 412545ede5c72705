"""The slot over HTTP: an ASGI app that BentoML mounts, or that runs by itself."""

import os
import uuid
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from recloop.policy import load
from recloop.schema import Arrival, now_us
from recloop.serving.bodies import Problem, answer, parsed
from recloop.serving.guard import OPEN, Guard, free_scopes
from recloop.serving.hot import Recommend, Straight
from recloop.serving.journal import Journal
from recloop.serving.messages import Feedback
from recloop.serving.openapi import DOCUMENT, PAGE
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Places, Tokens, require_tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import Outcome, StoreError


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
    """The routes of one slot; tokens, ``free`` and ``rate`` as in ``Guard``.

    ``state.quick`` says whether slates are drawn on the event loop.
    """
    act, manifest, quick = msgspec.json.Decoder(Feedback), recommender.policy.manifest, recommender.is_quick()
    recommend = Recommend(recommender, quick)

    async def feedback(request: Request) -> Response:
        event = _event(await parsed(request.receive, act))
        try:
            outcome = await run_in_threadpool(recommender.past.keep, event)
        except StoreError as error:
            raise Problem(503, f"{error}. Send it again later") from error
        if outcome is Outcome.CONFLICT:
            raise Problem(409, f"event_id: {event.event_id} is known with another body", "event_id")
        return answer({"accepted": int(outcome is Outcome.NEW), "event_id": event.event_id})

    async def describe(_: Request) -> Response:
        return answer(manifest.model_dump() | {"name": manifest.name})

    async def openapi(_: Request) -> Response:
        return answer(DOCUMENT)

    async def page(_: Request) -> Response:
        return HTMLResponse(PAGE)

    app = Starlette(
        routes=[
            Route("/recommend", recommend, methods=["POST"]),
            Route("/feedback", feedback, methods=["POST"]),
            Route("/policy", describe),
            Route("/openapi.json", openapi),
            Route("/docs.json", openapi),  # where BentoML would describe its own, and has none
            Route("/", page),
        ],
        middleware=[
            Middleware(Journal, SCOPES),
            Middleware(Guard, tokens, SCOPES, free, rate),
            Middleware(Straight, "/recommend", recommend),
        ],
        exception_handlers={Problem: explain},
    )
    app.state.quick = quick
    return app


def _event(sent: Feedback) -> Arrival:
    now = now_us()
    return Arrival(
        event_id=sent.event_id or uuid.uuid4().hex,
        user_id=sent.user_id,
        item_id=sent.item_id,
        kind=sent.kind,
        value=sent.value,
        request_id=sent.request_id,
        ts=now if sent.ts is None else sent.ts,
        received=now,
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
    past = Past(os.environ.get("RECLOOP_STORE_URL", ""), here.terms)
    return create_app(Recommender(load(folder), past), tokens, free, here.rate_at(host))

"""The slot over HTTP: an ASGI app that BentoML mounts, or that runs by itself."""

import hmac
import logging
import os
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.policy import load
from recloop.schema import Event, now_us
from recloop.serving.messages import Ask, Feedback, Refusal, refusal
from recloop.serving.openapi import DOCUMENT
from recloop.serving.recommender import Recommender
from recloop.store import StoreError, append, open_store

log = logging.getLogger("recloop.slot")
BODY_LIMIT = 64 * 1024
Handler = Callable[[Request], Awaitable[Response]]


class TooLarge(ValueError):
    """The body is longer than ``BODY_LIMIT``."""


def answer(content: object, status: int = 200) -> Response:
    """JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


async def body_of(request: Request) -> bytes:
    """The body, counted as it comes; raises ``TooLarge``."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise TooLarge(f"the body is longer than {BODY_LIMIT} bytes")
        parts.append(part)
    return b"".join(parts)


def guarded(handler: Handler) -> Handler:
    """Turn what is wrong with a request into an answer that names it."""

    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except msgspec.MsgspecError as error:
            return answer(refusal(error), 422 if isinstance(error, msgspec.ValidationError) else 400)
        except UnicodeDecodeError as error:
            return answer(Refusal(f"the body is not UTF-8: {error.reason}", "body"), 400)
        except TooLarge as error:
            return answer(Refusal(str(error), "body"), 413)
        except ValueError as error:
            return answer(Refusal(str(error), "exclude"), 422)

    return handle


def create_app(recommender: Recommender, token: str = "") -> Starlette:
    """The routes of one slot; with a token, feedback needs ``Authorization: Bearer``."""
    ask, act = msgspec.json.Decoder(Ask), msgspec.json.Decoder(Feedback)

    @guarded
    async def recommend(request: Request) -> Response:
        wanted = ask.decode(await body_of(request))
        request_id = request.headers.get("x-request-id") or uuid.uuid4().hex
        moment = wanted.context
        slate = await run_in_threadpool(
            recommender.recommend,
            request_id, wanted.user_id, moment.device, moment.ts, wanted.k, wanted.exclude,
        )  # fmt: skip
        return answer(slate.__dict__)

    @guarded
    async def feedback(request: Request) -> Response:
        sent = request.headers.get("authorization", "")
        if token and not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
            return answer(
                Refusal("feedback needs the token: Authorization: Bearer ...", "authorization"), 401
            )
        event = _event(act.decode(await body_of(request)))
        if recommender.engine is None:
            return answer(Refusal("this slot has no store: set RECLOOP_STORE_URL"), 503)
        try:
            kept = await run_in_threadpool(append, recommender.engine, (), [event])
        except SQLAlchemyError as error:
            log.warning("feedback was not stored: %s", error)
            return answer(Refusal("the store cannot be written now: send it again later"), 503)
        return answer({"accepted": kept, "event_id": event.event_id})

    async def describe(_: Request) -> Response:
        return answer(recommender.policy.manifest.model_dump() | {"name": recommender.policy.manifest.name})

    async def openapi(_: Request) -> Response:
        return answer(DOCUMENT)

    return Starlette(
        routes=[
            Route("/recommend", recommend, methods=["POST"]),
            Route("/feedback", feedback, methods=["POST"]),
            Route("/policy", describe),
            Route("/openapi.json", openapi),
        ]
    )


def _event(sent: Feedback) -> Event:
    return Event(
        event_id=sent.event_id or uuid.uuid4().hex,
        user_id=sent.user_id,
        item_id=sent.item_id,
        kind=sent.kind,  # type: ignore[arg-type]
        value=sent.value,
        request_id=sent.request_id,
        ts=now_us() if sent.ts is None else sent.ts,
    )


def app_from_environment(folder: Path) -> Starlette:
    """The slot of a policy's folder, with RECLOOP_STORE_URL and RECLOOP_TOKEN as the environment has them.

    Raises:
        ArtefactError: the policy is not what its manifest describes; the slot must not start.
    """
    policy = load(folder)
    url = os.environ.get("RECLOOP_STORE_URL", "")
    engine = None
    if url:
        try:
            engine = open_store(url)
        except StoreError as error:
            log.error("serving strangers only: %s", error)
    return create_app(Recommender(policy, engine), os.environ.get("RECLOOP_TOKEN", ""))

"""The gateway: assigns people to slots, logs what they were shown, takes their feedback.

An answer leaves only after its impressions, or its feedback, are on disk.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress

import msgspec
from msgspec.structs import replace
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from recloop.delivery import items, persons, rollout
from recloop.delivery.arms import Arms
from recloop.delivery.door import Door, Visitor
from recloop.delivery.exchange import Exchange, SlotFailure
from recloop.delivery.following import Following
from recloop.delivery.intake import Intake
from recloop.delivery.meters import Meters
from recloop.delivery.minutes import Minutes
from recloop.delivery.openapi import GATEWAY
from recloop.delivery.outcomes import FALLBACK
from recloop.delivery.presence import Presence
from recloop.delivery.pressure import Pressure
from recloop.delivery.problems import Problem, decoded, explain, require_json
from recloop.delivery.profiles import Profiles
from recloop.delivery.routing import Routing
from recloop.delivery.shadow import Shadow
from recloop.delivery.tally import Tally
from recloop.delivery.workers import exposition
from recloop.intake.feedback import AHEAD, OLDEST
from recloop.intake.traffic import Rules
from recloop.schema import Event, Impression, Slate, Traffic, now_us
from recloop.serving.guard import OPEN, Guard
from recloop.serving.journal import Journal
from recloop.serving.messages import Ask
from recloop.settings import Params, Tokens
from recloop.settings.tokens import FEEDBACK, OPERATE, READ
from recloop.store import Busy, Exposure, Refused, Taken, Writer, fault_of

log = logging.getLogger("recloop.gateway")
ASK_LIMIT = 1 << 16  # bytes of a question
SLOT_SECONDS = 2.0  # a slot that needs longer has failed
COMMIT_SECONDS = 3.0  # a store that needs longer is busy
SCOPES = {
    "/recommend": READ,
    "/feedback": FEEDBACK,
    "/events": FEEDBACK,
    "/profiles": FEEDBACK,
    "/rollout/abort": OPERATE,
    "/healthz": OPEN,
    "/status": READ,
    "/metrics": READ,
    "/openapi.json": OPEN,
} | items.SCOPES
MOST = {
    "/recommend": 256,
    "/feedback": 256,
    "/events": 32,
    "/profiles": 32,
} | items.MOST  # at once
MOST |= persons.MOST
Handler = Callable[[Request], Awaitable[Response]]


class Why(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /rollout/abort``."""

    why: str


class Gateway:
    """One gateway process over one store.

    Attributes:
        following: what it knows of routing and the catalogue.
        door: what it knows of people's consent.
        intake: where feedback comes in.
        meters: what it counts.
    """

    def __init__(
        self,
        engine: Engine,
        params: Params,
        tokens: Tokens,
        free: frozenset[str],
        rate: float | None = None,
        slot_token: str = "",
        internal: str = "",
        door: Door | None = None,
    ) -> None:
        self.engine, self.params, self._tokens, self._free, self._rate = engine, params, tokens, free, rate
        self._slot_token = slot_token
        self.meters = Meters()
        self.door = door or Door(engine, params.privacy.terms.model_dump(), assumed=False)
        self.following = Following(engine, params.reward.rating_positive, self.meters, self.door.heed)
        self._ask, self._why = msgspec.json.Decoder(Ask), msgspec.json.Decoder(Why)
        self._arms, self._tally = Arms(), Tally()
        self._rules = Rules(internal)
        known = self.meters, self.following
        self.intake = Intake(engine, params, *known, self.commit, self._rules, self.door)

    def app(
        self,
        pages: Sequence[BaseRoute] = (),
        scopes: Mapping[str, str] | None = None,
        most: Mapping[str, int] | None = None,
        alongside: Callable[[], AbstractAsyncContextManager] = nullcontext,
    ) -> Starlette:
        """The ASGI app: the gateway's routes, and pages that a room above brings.

        ``scopes`` and ``most`` say of the pages what a token needs, and how many may be under way at once;
        ``alongside`` is entered when the app starts and left when it stops.
        """
        routes = [
            self._post("/recommend", self._recommend),
            self._post("/feedback", self.intake.one),
            self._post("/events", self.intake.many),
            self._post("/profiles", Profiles(self.engine, self.door).take),
            self._post("/rollout/abort", self._abort),
            Route("/healthz", self._healthz),
            Route("/status", self._status),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            *items.Items(self.engine, self.meters).routes,
        ]
        named, limits = SCOPES | dict(scopes or {}), MOST | dict(most or {})
        return Starlette(
            routes=[*routes, *pages],
            middleware=[
                Middleware(Journal, named),
                Middleware(Guard, self._tokens, named, self._free, self._rate),
                Middleware(Pressure, limits, lambda path: self.meters.answered.labels(path, 429).inc()),
            ],
            lifespan=lambda app: self._lifespan(app, alongside),
            exception_handlers={HTTPException: explain},
        )

    @asynccontextmanager
    async def _lifespan(
        self, _: Starlette, alongside: Callable[[], AbstractAsyncContextManager]
    ) -> AsyncIterator[None]:
        await asyncio.to_thread(self.following.refresh)
        await asyncio.to_thread(self.following.refresh_catalogue)
        self._writer = Writer(self.engine)
        async with (
            Exchange(self.meters, SLOT_SECONDS, self._slot_token) as self._exchange,
            Presence(self.engine, self._tally, lambda: self.following.stale_seconds),
            Minutes(self.engine, self.meters.registry),
            Shadow(self._tally, SLOT_SECONDS, self._slot_token) as self._shadow,
            alongside(),
        ):
            task = asyncio.create_task(self.following.run())
            yield
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await asyncio.to_thread(self._writer.close)

    def _post(self, path: str, handler: Handler) -> Route:
        async def measured(request: Request) -> Response:
            begun, status = time.perf_counter(), 500
            try:
                response = await handler(request)
                status = response.status_code
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                self.meters.answered.labels(path, status).inc()
                self.meters.gateway_seconds.labels(path).observe(time.perf_counter() - begun)
            return response

        return Route(path, measured, methods=["POST"])

    async def _recommend(self, request: Request) -> Response:
        slate = await self.recommend(
            decoded(self._ask, await require_json(request, ASK_LIMIT)), request.scope["recloop.id"]
        )
        return Response(
            slate.model_dump_json(), headers={"x-request-id": slate.request_id}, media_type="application/json"
        )

    async def recommend(self, wanted: Ask, request_id: str) -> Slate:
        """A slate, whose impressions are on disk when it is returned, where the person lets them be stored.

        Raises:
            Problem: the time is out of bounds, the store is busy, or there is nothing to show.
        """
        now = now_us()
        ts = now if wanted.context.ts is None else wanted.context.ts
        if not now - OLDEST <= ts <= now + AHEAD:
            raise Problem(422, "ts must be within the last seven days", "context.ts")
        following, routing = self.following, self.following.routing
        visitor = await self.door.visitor(wanted.user_id)
        wanted = replace(wanted, user_id=visitor.user_id)
        running = following.experiments if visitor.personal else ()
        given = self._arms.given(running, routing, wanted.user_id, wanted.k is None, ts)
        size = wanted.k or given.size or self.params.serving.slate
        wanted = replace(wanted, context=replace(wanted.context, ts=ts), k=size)
        slate, colour = await self._rank(wanted, request_id, routing, given.colours, visitor)
        if not visitor.kept:
            return slate
        traffic = self._rules.of_person(wanted.user_id)
        await self.commit(shown=_impressions(slate, wanted, colour, ts, traffic), met=given.met)
        self._arms.logged(given.met)
        self.intake.served(slate)
        return slate

    async def _rank(
        self,
        wanted: Ask,
        request_id: str,
        routing: Routing | None,
        colours: Sequence[str],
        visitor: Visitor,
    ) -> tuple[Slate, str]:
        """A slate of the person's slot, of the other one, or of what is popular; and the slot's colour."""
        if routing is None:
            return self._fallback(wanted, request_id), ""
        order = self._exchange.in_turn(colours, routing.slots)
        asked = wanted
        if not visitor.personal:  # a stranger to the slot: no profile, no history
            asked = replace(wanted, user_id=f"anon.{uuid.uuid4().hex}")
        failed: dict[str, str] = {}
        for colour in (order * 2)[:2]:
            if failed.get(colour) == "timeout":
                continue
            target, begun = routing.slots[colour], time.perf_counter()
            try:
                slate = await self._exchange.ask(colour, target, asked, request_id, self.following.titles)
            except SlotFailure as failure:
                self._tally.attempt(routing, colour, failure.outcome, time.perf_counter() - begun)
                failed[colour] = failure.outcome
                log.warning("slot %s: %s", colour, failure)
            else:
                seconds = time.perf_counter() - begun
                self._tally.attempt(routing, colour, "ok", seconds)
                self._shadow.copy(routing, asked, slate, seconds, self.following.titles)
                return slate, colour
        return self._fallback(wanted, request_id), ""

    def _fallback(self, wanted: Ask, request_id: str) -> Slate:
        self.meters.fallbacks.inc()
        excluded = set(wanted.exclude)
        best = (item for item in self.following.popular if item not in excluded)
        items = [item for item, _ in zip(best, range(wanted.k or 0), strict=False)]
        if not items:
            raise Problem(503, "no slot answers, and the store has no items to fall back on", later=True)
        return Slate(
            request_id=request_id,
            items=items,
            titles=[self.following.titles[item] for item in items],
            scores=[float(len(items) - place) for place in range(len(items))],
            propensities=[1.0] * len(items),
            policy=FALLBACK,
            cold_start=True,
            fallback=True,
        )

    async def commit(
        self,
        shown: Sequence[Impression] = (),
        acts: Sequence[Event] = (),
        refused: Sequence[Refused] = (),
        met: Sequence[Exposure] = (),
    ) -> Taken:
        """Wait until the rows are on disk; what became of them. Where the wait ends, they are not written.

        Raises:
            Problem: the store is busy, or cannot be written.
        """
        try:
            written = self._writer.submit(shown, acts, refused, met)
            return await asyncio.wait_for(written, COMMIT_SECONDS)
        except Busy as error:
            raise Problem(429, f"{error}: send it again later", later=True) from error
        except TimeoutError as error:
            raise Problem(
                503, "the store is busy: send it again, with the same event_id", later=True
            ) from error
        except SQLAlchemyError as error:
            log.error("the store cannot be written: %s", fault_of(error))
            raise Problem(503, "the store cannot be written now: send it again later", later=True) from error

    async def _abort(self, request: Request) -> Response:
        wanted = decoded(self._why, await require_json(request, ASK_LIMIT))
        found = await run_in_threadpool(rollout.current, self.engine)
        if found is None:
            raise Problem(409, "no rollout is open")
        try:
            await run_in_threadpool(rollout.abort, self.engine, found.id, "operator", wanted.why)
        except rollout.Conflict as error:
            raise Problem(409, str(error)) from error
        return _json({"rollout": found.id, "state": "aborted"})

    async def _healthz(self, _: Request) -> Response:
        stale = self.following.stale_seconds
        well = stale < 5 and self.following.routing is not None
        return _json({"status": "ok" if well else "degraded", "store_unread_seconds": round(stale, 1)})

    async def _status(self, _: Request) -> Response:
        try:
            found = await run_in_threadpool(rollout.current, self.engine)
        except SQLAlchemyError:
            found = None
        return _json(
            {
                "routing": self.following.routing,
                "routing_version": self.following.version,
                "rollout": found,
                "experiments": [one.experiment.name for one in self.following.experiments],
                "store_unread_seconds": round(self.following.stale_seconds, 1),
            }
        )

    async def _metrics(self, _: Request) -> Response:
        return Response(exposition(self.meters), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def _openapi(self, _: Request) -> Response:
        return _json(GATEWAY)


def _impressions(
    slate: Slate, wanted: Ask, colour: str, ts: int, traffic: Traffic | None
) -> list[Impression]:
    return [
        Impression(
            request_id=slate.request_id,
            position=position,
            user_id=wanted.user_id,
            item_id=item,
            propensity=propensity,
            policy=slate.policy,
            slot=colour,
            device=wanted.context.device,
            traffic=traffic,
            ts=ts,
        )
        for position, (item, propensity) in enumerate(zip(slate.items, slate.propensities, strict=True))
    ]


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")

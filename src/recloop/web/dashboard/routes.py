"""The dashboard's pages, its stream of changes, and what operators ask."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from recloop.delivery import by_hand, rollout
from recloop.delivery.gateway import ASK_LIMIT, Gateway
from recloop.delivery.lease import holder
from recloop.delivery.problems import Problem, decoded, require_json
from recloop.settings.tokens import OPERATE, READ
from recloop.watch.rules import OFF
from recloop.web.dashboard.board import Board, Shown
from recloop.web.dashboard.panels import panels
from recloop.web.dashboard.provenance import origin
from recloop.web.dashboard.texts import TEXTS
from recloop.web.dashboard.traffic import Traffic
from recloop.web.dashboard.words import FILTERS
from recloop.web.pages import TEMPLATES, page
from recloop.web.texts import language

SCOPES = {"/dashboard": READ, "/dashboard/*": READ, "/dashboard/rollout": OPERATE}
LOOK = 0.25  # seconds between looks at what has changed
BEAT = 5.0  # seconds after which a stream says that it lives
LIFE = 60.0  # seconds after which a stream ends and is asked for anew, with a token that still holds
FIRST = 0.3  # seconds that the first page waits for what is quick
STREAMS = 64  # at once
COLUMNS = (
    ["now", "rollout", "reward", "model", "experiments", "learning"],
    ["serving", "alerts", "drift", "quarantine", "said"],
    ["versions"],
)
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
STREAM_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no", "x-content-type-options": "nosniff"}

TEMPLATES.filters.update(FILTERS)


class Wish(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /dashboard/rollout``: what is asked, of the rollout that the operator saw, and why."""

    action: by_hand.Action
    rollout: int
    seen: str
    why: str


class Dashboard:
    """Of one gateway. ``home``: where the data versions are listed."""

    def __init__(self, gateway: Gateway, home: Path) -> None:
        self._gateway, self._streams = gateway, 0
        self.board = Board(panels(gateway, home, Traffic(gateway.meters)))
        self._drawn_before: dict[tuple[str, str], tuple[Shown, str]] = {}
        self.routes = [
            Route("/dashboard", self._show),
            Route("/dashboard/stream", self._stream),
            Route("/dashboard/request", self._search),
            Route("/dashboard/request/{request_id}", self._request),
            Route("/dashboard/rollout", self._operate, methods=["POST"]),
        ]

    async def _show(self, request: Request) -> Response:
        code = language(request)
        quick = {panel.name for panel in self.board.panels if not panel.slow}
        for _ in range(int(FIRST / 0.02)):
            if quick <= self.board.shown.keys():
                break
            await asyncio.sleep(0.02)
        drawn = {name: self._drawn(name, code, shown) for name, shown in self._contents().items()}
        return page("dashboard/page.html", text=TEXTS[code], lang=code, drawn=drawn, columns=COLUMNS)

    def _contents(self) -> dict[str, Shown]:
        """Of all panels, in order; of those not computed yet an empty one."""
        shown = self.board.shown
        return {panel.name: shown.get(panel.name, Shown(None, 0, "")) for panel in self.board.panels}

    def _drawn(self, name: str, code: str, shown: Shown) -> str:
        """A panel's HTML, drawn once for all who look."""
        before = self._drawn_before.get((name, code))
        if before is not None and before[0] is shown:
            return before[1]
        template = TEMPLATES.get_template("dashboard/panel.html")
        drawn = template.render(name=name, text=TEXTS[code], lang=code, shown=shown, off=OFF)
        self._drawn_before[name, code] = shown, drawn
        return drawn

    async def _stream(self, request: Request) -> Response:
        if self._streams >= STREAMS:
            raise Problem(503, "too many dashboards are open", later=True)
        if request.method == "HEAD":
            return Response(headers=STREAM_HEADERS, media_type="text/event-stream")
        stream = self._changes(language(request))
        return StreamingResponse(stream, headers=STREAM_HEADERS, media_type="text/event-stream")

    async def _changes(self, code: str) -> AsyncIterator[str]:
        """Panels as they change, all at first; server-sent events."""
        self._streams += 1
        sent: dict[str, int] = {}
        clock, beat = asyncio.get_running_loop().time, 0.0
        end = clock() + LIFE
        try:
            yield "retry: 1000\n\n"
            while True:
                for name, shown in self._contents().items():
                    if shown.version and sent.get(name) != shown.version:
                        sent[name], beat = shown.version, clock()
                        drawn = self._drawn(name, code, shown)
                        yield f"event: panel\ndata: {json.dumps({'name': name, 'html': drawn})}\n\n"
                if clock() - beat >= BEAT:
                    beat = clock()
                    yield "event: beat\ndata: \n\n"
                if clock() >= end:
                    return
                await asyncio.sleep(LOOK)
        finally:
            self._streams -= 1

    async def _search(self, request: Request) -> Response:
        code, wanted = language(request), request.query_params.get("id", "").strip()
        if REQUEST_ID.fullmatch(wanted):
            return RedirectResponse(f"/dashboard/request/{wanted}?lang={code}", 303)
        return self._told(code, 422, wanted, None, "request_unfit")

    async def _request(self, request: Request) -> Response:
        code, wanted = language(request), request.path_params["request_id"]
        if not REQUEST_ID.fullmatch(wanted):
            return self._told(code, 422, wanted, None, "request_unfit")
        try:
            found = await run_in_threadpool(origin, self._gateway.engine, wanted)
        except SQLAlchemyError:
            return self._told(code, 503, wanted, None, "store_away")
        if found is None:
            return self._told(code, 404, wanted, None, "request_unknown")
        return self._told(code, 200, wanted, found, "")

    def _told(self, code: str, status: int, wanted: str, found: Any, fault: str) -> Response:
        routing = self._gateway.following.routing
        values = {"wanted": wanted, "found": found, "fault": fault, "routing": routing}
        return page("dashboard/request.html", status, text=TEXTS[code], lang=code, **values)

    async def _operate(self, request: Request) -> Response:
        """The step, made if the rollout stands where the operator saw it; the answer says it in words."""
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise Problem(403, "this must be asked on the dashboard itself", "origin")
        wish = decoded(msgspec.json.Decoder(Wish), await require_json(request, ASK_LIMIT))
        if not wish.why.strip():
            raise Problem(422, "why is needed: it is kept with the transition", "why")
        who = f"{request.scope['recloop.who']} (dashboard)"
        text = TEXTS[language(request)]
        try:
            state, controlled = await run_in_threadpool(self._act, wish, who, text)
        except rollout.Conflict as error:
            raise Problem(409, str(error)) from error
        except SQLAlchemyError as error:
            raise Problem(503, text["store_away"], later=True) from error
        told = text["done"].format(rollout=wish.rollout, state=text[f"state_{state}"])
        if not controlled:
            told = f"{told} {text['no_controller'].replace('`', '')}"
        return Response(msgspec.json.encode({"told": told}), media_type="application/json")

    def _act(self, wish: Wish, who: str, text: Mapping[str, str]) -> tuple[str, bool]:
        """The state afterwards, and whether somebody controls the rollout.

        Raises:
            Conflict: it is not where the operator saw it, or it cannot be done there.
        """
        engine, shares = self._gateway.engine, self._gateway.params.delivery.shares
        found, actions = by_hand.possible(engine)
        if found is None or found.id != wish.rollout or by_hand.seen(engine, found) != wish.seen:
            raise rollout.Conflict(text["moved_on"])
        if wish.action not in actions:
            asked, here = text[f"action_{wish.action}"], text[f"state_{found.state}"]
            raise rollout.Conflict(text["not_now"].format(action=asked, state=here))
        by_hand.act(engine, wish.action, found, shares, who, wish.why.strip())
        return rollout.find(engine, found.id).state, bool(holder(engine))

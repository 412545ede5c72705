"""What a visitor says of an item: not interested, and stars. Views, dwell and clicks are the script's."""

import uuid
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from recloop.delivery.problems import Problem
from recloop.web.shop import cookies
from recloop.web.shop.cookies import Line
from recloop.web.shop.frame import Frame, field, seen_in, to
from recloop.web.shop.guest import Guest


class Acts:
    """``/dismiss`` and ``/rating``."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.routes: list[Route] = [
            frame.takes("/dismiss", self._dismiss),
            frame.takes("/rating", self._rate),
        ]

    async def _dismiss(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        """Hidden for this visit in any case, since that was asked for; and told, where it may be kept."""
        item = field(form, "item")
        await self._frame.tell(request, guest, [act("dismiss", item, seen_in(form))])
        quiet = "application/json" in request.headers.get("accept", "")
        answer: Response = JSONResponse({"hidden": item}) if quiet else to("/")
        hidden = [line for line in cookies.lines_of(request, cookies.HIDDEN) if line.item_id != item]
        cookies.keep(answer, request, cookies.HIDDEN, [*hidden, Line(item)])
        return answer

    async def _rate(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        item, stars = field(form, "item"), form.get("stars", "")
        if stars not in ("1", "2", "3", "4", "5"):
            raise Problem(422, "stars must be a number from 1 to 5", "stars")
        told = act("rating", item, seen_in(form)) | {"value": float(stars)}
        await self._frame.tell(request, guest, [told])
        return to(f"/talent/{item}#rating")


def act(kind: str, item_id: str, request_id: str) -> dict:
    """An act for ``/events``, without its person."""
    made = {"event_id": f"s-{uuid.uuid4().hex}", "item_id": item_id, "kind": kind}
    return made | ({"request_id": request_id} if request_id else {})

"""The start page: suggestions, personal or not, what most people like, and why something was suggested."""

from functools import partial
from itertools import islice

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery.why import TEXTS as WHY
from recloop.delivery.why import why
from recloop.schema import Slate
from recloop.serving.messages import Ask, Moment
from recloop.store import PURPOSES, acted_on, categories
from recloop.web.shop import cookies
from recloop.web.shop.cards import label
from recloop.web.shop.cookies import Line
from recloop.web.shop.frame import Frame
from recloop.web.shop.guest import Guest

POPULAR = 10  # items beside the suggestions
REMEMBERED = 200  # dismissals that are left out


class Home:
    """``/`` and ``/why``."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.routes: list[Route] = [frame.shows("/", self._show), frame.shows("/why", self._why)]

    async def _show(self, request: Request, guest: Guest) -> Response:
        """Who has not chosen yet sees what most people like: no policy is asked, nothing is logged."""
        frame, following = self._frame, self._frame.gateway.following
        hidden = [line.item_id for line in cookies.lines_of(request, cookies.HIDDEN)]
        if guest.personal:
            hidden += await run_in_threadpool(acted_on, frame.engine, guest.name, ("dismiss",), REMEMBERED)
        slate, shown = None, list[str]()
        if guest.chose:
            slate = await self._slate(request, guest, hidden)
            shown = slate.items
        left_out = {*hidden, *shown}
        liked = islice((item for item in following.popular if item not in left_out), POPULAR)
        names = await run_in_threadpool(categories, frame.engine)
        answer = frame.page(
            "home.html",
            guest,
            slate=slate,
            shown=await frame.cards(shown, guest),
            liked=await frame.cards(list(liked), guest),
            categories=[(name, label(name, guest.code)) for name in names],
            purposes=PURPOSES,
        )
        if slate and guest.kept:
            seen = [*cookies.lines_of(request, cookies.SEEN), Line(slate.request_id)]
            cookies.keep(answer, request, cookies.SEEN, seen)
        return answer

    async def _slate(self, request: Request, guest: Guest, hidden: list[str]) -> Slate:
        device = "phone" if "Mobi" in request.headers.get("user-agent", "") else "desktop"
        wanted = Ask(guest.person, Moment(device), exclude=hidden)
        return await self._frame.gateway.recommend(wanted, request.scope["recloop.id"])

    async def _why(self, request: Request, guest: Guest) -> Response:
        asked, item = (request.query_params.get(name, "") for name in ("request", "item"))
        said: list[str] = [WHY[guest.code]["unknown"]]
        shown = []
        if guest.person and cookies.is_id(asked) and cookies.is_id(item):
            assumed = self._frame.gateway.door.assumed
            called = partial(label, code=guest.code)
            whose = self._frame.engine, guest.name, asked, item, assumed, guest.code, called
            said = await run_in_threadpool(why, *whose)
            shown = await self._frame.cards([item], guest)
        return self._frame.page("why.html", guest, said=said, shown=shown)

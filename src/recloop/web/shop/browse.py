"""A category, a search, an item. Each page costs as much among a million items as among few."""

from urllib.parse import urlencode

from sqlalchemy import Engine, select
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery.items import LONGEST_SEARCH
from recloop.schema import Item
from recloop.store import categories, search_items
from recloop.store.tables import events, impressions
from recloop.web.shop import cookies
from recloop.web.shop.cards import card, cards, label
from recloop.web.shop.frame import Frame
from recloop.web.shop.guest import Guest

PAGE = 25  # items of one page of a list
RELATED = 5


class Browse:
    """``/category/{name}``, ``/search`` and ``/talent/{item_id}``."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.routes: list[Route] = [
            frame.shows("/category/{name:path}", self._category),
            frame.shows("/search", self._search),
            frame.shows("/talent/{item_id}", self._item),
        ]

    async def _category(self, request: Request, guest: Guest) -> Response:
        name = request.path_params["name"]
        if "\0" in name or len(name) > LONGEST_SEARCH:
            return self._frame.page("gone.html", guest, 404)
        return await self._list(request, guest, label(name, guest.code), None, name)

    async def _search(self, request: Request, guest: Guest) -> Response:
        words = request.query_params.get("q", "").replace("\0", " ")[:LONGEST_SEARCH].strip()
        title = guest.text["results"].format(words=words) if words else guest.text["all"]
        return await self._list(request, guest, title, words or None, None)

    async def _list(
        self, request: Request, guest: Guest, title: str, words: str | None, category: str | None
    ) -> Response:
        engine, after = self._frame.engine, request.query_params.get("after", "")
        after = after if cookies.is_id(after) else ""
        found = await run_in_threadpool(search_items, engine, words, category, after, PAGE + 1)
        names = await run_in_threadpool(categories, engine)
        if category is not None and not found and category not in names:
            return self._frame.page("gone.html", guest, 404)
        kept = {"q": words} if words else {}
        more = f"?{urlencode(kept | {'after': found[PAGE - 1].item_id})}" if len(found) > PAGE else ""
        first = f"?{urlencode(kept)}" if after else ""
        return self._frame.page(
            "list.html",
            guest,
            title=title,
            words=words or "",
            category=category,
            found=cards(found[:PAGE], guest.code),
            categories=[(name, label(name, guest.code)) for name in names],
            more=more,
            first=first,
        )

    async def _item(self, request: Request, guest: Guest) -> Response:
        item_id = request.path_params["item_id"]
        found = await self._frame.items([item_id]) if cookies.is_id(item_id) else []
        if not found:
            return self._frame.page("gone.html", guest, 404)
        asked, stars = "", None
        if guest.kept:
            requests = [line.item_id for line in cookies.lines_of(request, cookies.SEEN)]
            asked, stars = await run_in_threadpool(
                told_before, self._frame.engine, guest.name, item_id, requests
            )
        near = await run_in_threadpool(related, self._frame.engine, found[0])
        return self._frame.page(
            "item.html",
            guest,
            item=card(found[0], guest.code),
            request_id=asked,
            given=stars,
            related=cards(near, guest.code),
            in_cart=any(line.item_id == item_id for line in guest.cart),
        )


def related(engine: Engine, item: Item) -> list[Item]:
    """The next available items of the category, after the last one from the first on."""
    found = search_items(engine, category=item.category, after=item.item_id, limit=4 * RELATED)
    if len(found) < 4 * RELATED:
        found += search_items(engine, category=item.category, limit=4 * RELATED)
    others = {one.item_id: one for one in found if one.available and one.item_id != item.item_id}
    return list(others.values())[:RELATED]


def told_before(engine: Engine, name: str, item_id: str, requests: list[str]) -> tuple[str, int | None]:
    """Which of the last requests showed the item to the person, or ""; and the stars that they gave it."""
    shown, acts = impressions.c, events.c
    seen = select(shown.request_id).where(
        shown.request_id.in_(requests), shown.user_id == name, shown.item_id == item_id
    )
    stars = select(acts.value).where(acts.user_id == name, acts.item_id == item_id, acts.kind == "rating")
    with engine.connect() as connection:
        asked = connection.execute(seen.order_by(shown.seq.desc()).limit(1)).scalar()
        given = connection.execute(stars.order_by(acts.ts.desc(), acts.seq.desc()).limit(1)).scalar()
    return asked or "", None if given is None else round(given)

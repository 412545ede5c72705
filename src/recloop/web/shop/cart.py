"""Cart and order. The cart is a cookie of the visit: the store hears of it where the visitor lets it.

Ordering is a pretence: a ``purchase`` for each item, with its price, and nothing about payment or address.
"""

import hashlib
import uuid
from collections.abc import Mapping, Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery.problems import Problem
from recloop.schema import Item
from recloop.web.shop import cookies
from recloop.web.shop.acts import act
from recloop.web.shop.cards import card, won
from recloop.web.shop.cookies import Line
from recloop.web.shop.frame import Frame, field, seen_in, to
from recloop.web.shop.guest import Guest

NOTES = "changed", "full"  # what the cart's page may have to say


class Cart:
    """``/cart``, ``/order`` and ``/ordered``."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self.routes: list[Route] = [
            frame.shows("/cart", self._show),
            frame.takes("/cart", self._change),
            frame.takes("/order", self._order),
            frame.shows("/ordered", self._ordered),
        ]

    async def _show(self, request: Request, guest: Guest) -> Response:
        all_of_it = await self._frame.items([line.item_id for line in guest.cart])
        found = [item for item in all_of_it if item.available]
        priced = [item.price for item in found if item.price is not None]
        return self._frame.page(
            "cart.html",
            guest,
            lines=[card(item, guest.code) for item in all_of_it],
            offered=len(found),
            seen=looked(found),
            note=next((name for name in NOTES if name in request.query_params), ""),
            most=cookies.MOST[cookies.CART],
            total=won(sum(priced), guest.code) if priced else "",
            some_open=len(priced) < len(found),
            order=uuid.uuid4().hex,
        )

    async def _change(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        item, how, answer = field(form, "item"), form.get("do", ""), to("/cart")
        if how not in ("add", "remove"):
            raise Problem(422, "do must be add or remove", "do")
        lines = [line for line in guest.cart if line.item_id != item]
        if how == "add":
            line = Line(item, seen_in(form))
            if not await self._offered([line]):
                raise Problem(422, "this item cannot be had now", "item")
            if len(lines) == cookies.MOST[cookies.CART]:
                return to("/cart?full")
            if len(lines) == len(guest.cart):
                await self._frame.tell(request, guest, [act("cart", *line)])
            lines.append(line)
        cookies.keep(answer, request, cookies.CART, lines)
        return answer

    async def _order(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        """Sent twice, it is one order: its number, of the form, is in the ids of its purchases.

        Nothing is ordered but what the visitor saw, at the price that they saw: another tab may have changed
        the cart, and an item may have been sold meanwhile.
        """
        number = field(form, "order")
        found = await self._offered(guest.cart)
        now = looked([item for _, item in found])
        if guest.cart and (not found or form.get("seen", now) != now):
            return to("/cart?changed")
        bought = [
            act("purchase", *line)
            | {"event_id": f"o-{number[:48]}-{place}"}
            | ({} if item.price is None else {"value": item.price})
            for place, (line, item) in enumerate(found)
        ]
        if bought:
            await self._frame.tell(request, guest, bought)
        answer = to("/ordered" if bought or cookies.ORDER in request.cookies else "/cart")
        if bought:
            lines = [line for line, _ in found]
            cookies.keep(answer, request, cookies.ORDER, lines)
            cookies.keep(answer, request, cookies.CART, [line for line in guest.cart if line not in lines])
        return answer

    async def _ordered(self, request: Request, guest: Guest) -> Response:
        lines = cookies.lines_of(request, cookies.ORDER)
        return self._frame.page(
            "ordered.html",
            guest,
            lines=await self._frame.cards([line.item_id for line in lines], guest),
            asked=dict(lines),
        )

    async def _offered(self, lines: Sequence[Line]) -> list[tuple[Line, Item]]:
        """Those that can be had now."""
        by_id = {line.item_id: line for line in lines}
        found = await self._frame.items(list(by_id))
        return [(by_id[item.item_id], item) for item in found if item.available]


def looked(offered: Sequence[Item]) -> str:
    """A mark of what can be ordered and its prices, for the form: the order is of what it was made for."""
    told = "!".join(f"{item.item_id}|{item.price}" for item in offered)
    return hashlib.sha256(told.encode()).hexdigest()[:16]

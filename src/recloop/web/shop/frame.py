"""What all pages of the shop share: who asks, the frame around them, forms, a store that is away."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from recloop.delivery.gateway import ASK_LIMIT, Gateway
from recloop.delivery.problems import Problem, body_of
from recloop.schema import Item
from recloop.store import Outcome, StoreError, find_items
from recloop.web.pages import page
from recloop.web.shop import cookies
from recloop.web.shop.cards import Card, card
from recloop.web.shop.guest import Guest, guest_of, stranger
from recloop.web.texts import LANGUAGE_COOKIE, LANGUAGES

Page = Callable[[Request, Guest], Awaitable[Response]]
Form = Callable[[Request, Guest, Mapping[str, str]], Awaitable[Response]]
LATER = (429, 503)


class Frame:
    """The shop of one gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.engine = gateway, gateway.engine

    def shows(self, path: str, handler: Page) -> Route:
        """A page; one that needs a store that is away says so."""

        async def answer(request: Request) -> Response:
            try:
                made = await handler(request, await guest_of(request, self.gateway.door))
            except (SQLAlchemyError, StoreError, Problem) as error:
                if isinstance(error, Problem) and error.status_code not in LATER:
                    raise
                made = self.page("busy.html", stranger(request), 503)
            if (code := request.query_params.get("lang", "")) in LANGUAGES:
                cookies.put(made, request, LANGUAGE_COOKIE, code)
            return made

        return Route(path, answer)

    def takes(self, path: str, handler: Form) -> Route:
        """A form, which must come from a page of ours. Of a field that comes twice the last holds.

        What is wrong with it is told to a browser as a page, to a program as a ``Refusal``.
        """

        async def take(request: Request) -> Response:
            form = await form_of(request)
            try:
                return await handler(request, await guest_of(request, self.gateway.door), form)
            except (SQLAlchemyError, StoreError) as error:
                raise Problem(503, "this could not be stored: try again", later=True) from error

        async def answer(request: Request) -> Response:
            try:
                return await take(request)
            except Problem as problem:
                if "text/html" not in request.headers.get("accept", ""):
                    raise
                name = "busy.html" if problem.status_code in LATER else "sorry.html"
                return self.page(name, stranger(request), problem.status_code)

        return Route(path, answer, methods=["POST"])

    def page(self, template: str, guest: Guest, status: int = 200, **values: Any) -> Response:
        """A page in the guest's language."""
        return page(f"shop/{template}", status, guest=guest, text=guest.text, lang=guest.code, **values)

    async def items(self, item_ids: list[str]) -> list[Item]:
        """Those that there are, in this order."""
        found = {item.item_id: item for item in await run_in_threadpool(find_items, self.engine, item_ids)}
        return [found[one] for one in item_ids if one in found]

    async def cards(self, item_ids: list[str], guest: Guest) -> list[Card]:
        """The same, as they are shown."""
        return [card(item, guest.code) for item in await self.items(item_ids)]

    async def tell(self, request: Request, guest: Guest, acts: list[dict]) -> None:
        """Take acts in as ``/events`` does; nothing of who does not let them be kept.

        Raises:
            Problem: one of them is refused.
        """
        if not guest.kept:
            return
        told = [act | {"user_id": guest.person} for act in acts]
        _, outcomes = await self.gateway.intake.told(request, told)
        if wrong := set(outcomes) & {"refused", Outcome.CONFLICT}:
            raise Problem(422, f"this act cannot be taken ({', '.join(sorted(wrong))})", "item")


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent from a page of this origin.

    Raises:
        Problem: it came from elsewhere, is too long, or is no text.
    """
    origin = request.headers.get("origin")
    elsewhere = origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    if elsewhere or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Problem(403, "this must be sent from the shop's own pages", "origin")
    sent = (await body_of(request, ASK_LIMIT)).decode(errors="replace")
    try:
        fields = parse_qs(sent, max_num_fields=100)
    except ValueError as error:
        raise Problem(422, "a form has 100 fields at most", "body") from error
    return {name: values[-1] for name, values in fields.items()}


def field(form: Mapping[str, str], name: str) -> str:
    """A field that is the id of an item or of a request.

    Raises:
        Problem: it is none.
    """
    value = form.get(name, "")
    if not cookies.is_id(value):
        raise Problem(422, f"{name} must be an id", name)
    return value


def seen_in(form: Mapping[str, str]) -> str:
    """The request in whose slate the item of a form was seen; empty where there is none."""
    asked = form.get("request", "")
    return asked if cookies.is_id(asked) else ""


def to(path: str) -> RedirectResponse:
    """After a form: the page that shows what came of it."""
    return RedirectResponse(path, 303)

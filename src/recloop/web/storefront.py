"""The storefront: consent first, then a slate; feedback goes the way of everybody's."""

import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from recloop.delivery.gateway import ASK_LIMIT, Gateway
from recloop.delivery.problems import Problem, body_of
from recloop.serving.messages import Ask, Moment
from recloop.store import set_consent
from recloop.store.tables import consents
from recloop.web.pages import page
from recloop.web.texts import TEXTS, language

COOKIE = "recloop_person"
YEAR = 365 * 24 * 3600  # seconds


class Storefront:
    """The pages of one gateway. A person is a random pseudonym in a cookie, set with the first choice."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.routes = [Route("/", self._show), Route("/consent", self._choose, methods=["POST"])]

    async def _show(self, request: Request) -> Response:
        code, person = language(request), _person(request)
        values: dict[str, Any] = {"text": TEXTS[code], "lang": code, "person": person}
        values |= {"slate": None, "choice": None}
        status = 200
        try:
            values["choice"] = await run_in_threadpool(self._choice, person) if person else None
            if values["choice"] is not None and "choose" not in request.query_params:
                device = "phone" if "Mobi" in request.headers.get("user-agent", "") else "desktop"
                values["slate"] = await self._gateway.recommend(
                    Ask(person, Moment(device)), request.scope["recloop.id"]
                )
        except (Problem, SQLAlchemyError):
            status = 503
        return page("storefront.html", status, busy=status == 503, **values)

    async def _choose(self, request: Request) -> Response:
        origin = request.headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != request.headers.get("host"):
            raise Problem(403, "the choice must be made on the storefront itself", "origin")
        form = parse_qs((await body_of(request, ASK_LIMIT)).decode(errors="replace"))
        word = form.get("personalisation", [""])[0]
        if word not in ("yes", "no"):
            raise Problem(422, "personalisation must be yes or no", "personalisation")
        person = _person(request) or f"w-{uuid.uuid4().hex}"
        try:
            await run_in_threadpool(
                set_consent, self._gateway.engine, person, "personalisation", word == "yes"
            )
        except SQLAlchemyError as error:
            raise Problem(503, "the choice could not be stored: try again", later=True) from error
        await run_in_threadpool(self._gateway.following.refresh)  # so that it holds for the next slate
        answer = RedirectResponse(f"/?lang={language(request)}", 303)
        answer.set_cookie(COOKIE, person, max_age=YEAR, httponly=True, samesite="lax")
        return answer

    def _choice(self, person: str) -> bool | None:
        """The newest word on personalisation; None before the first."""
        query = (
            select(consents.c.granted)
            .where(consents.c.user_id == person, consents.c.purpose == "personalisation")
            .order_by(consents.c.id.desc())
            .limit(1)
        )
        with self._gateway.engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()


def _person(request: Request) -> str:
    """The pseudonym in the cookie; empty where there is none that we gave."""
    found = request.cookies.get(COOKIE, "")
    known = found.startswith("w-") and len(found) == 34 and found[2:].isalnum() and found.isascii()
    return found if known else ""

"""The storefront: consent first, then a slate; feedback goes the way of everybody's."""

import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from recloop.delivery.gateway import ASK_LIMIT, Gateway
from recloop.delivery.problems import Problem, body_of
from recloop.delivery.why import TEXTS as WHY
from recloop.delivery.why import why
from recloop.serving.messages import Ask, Moment
from recloop.store import PURPOSES, set_consents
from recloop.store.consent import words_of
from recloop.web.pages import page
from recloop.web.texts import TEXTS, language

COOKIE = "recloop_person"
YEAR = 365 * 24 * 3600  # seconds


class Storefront:
    """The pages of one gateway. A person is a random pseudonym in a cookie, set with the first choice."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.routes = [
            Route("/", self._show),
            Route("/consent", self._choose, methods=["POST"]),
            Route("/why", self._why),
        ]

    async def _show(self, request: Request) -> Response:
        code, person = language(request), _person(request)
        values: dict[str, Any] = {"text": TEXTS[code], "lang": code, "person": person}
        values |= {"slate": None, "choice": None, "purposes": PURPOSES}
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
        if form.get("choice") != ["made"]:
            raise Problem(422, "choice must be made: an empty form is no answer", "choice")
        words = {purpose: form.get(purpose, ["no"])[0] for purpose in PURPOSES}
        for purpose, word in words.items():
            if word not in ("yes", "no"):
                raise Problem(422, f"{purpose} must be yes or no", purpose)
        person = _person(request) or f"w-{uuid.uuid4().hex}"
        door, granted = self._gateway.door, {purpose: word == "yes" for purpose, word in words.items()}
        try:
            name = await run_in_threadpool(door.name, person, make=True)
            await run_in_threadpool(set_consents, self._gateway.engine, name or person, granted, door.terms)
            door.heed([name or person])
        except SQLAlchemyError as error:
            raise Problem(503, "the choice could not be stored: try again", later=True) from error
        answer = RedirectResponse(f"/?lang={language(request)}", 303)
        answer.set_cookie(COOKIE, person, max_age=YEAR, httponly=True, samesite="lax")
        return answer

    async def _why(self, request: Request) -> Response:
        code, person = language(request), _person(request)
        answer, item = (request.query_params.get(name, "") for name in ("request", "item"))
        said: list[str] = [WHY[code]["unknown"]]
        if person:
            name, assumed = (await self._gateway.door.visitor(person)).user_id, self._gateway.door.assumed
            try:
                said = await run_in_threadpool(why, self._gateway.engine, name, answer, item, assumed, code)
            except SQLAlchemyError:
                return page("why.html", 503, text=TEXTS[code], lang=code, said=[TEXTS[code]["busy"]])
        return page("why.html", text=TEXTS[code], lang=code, said=said)

    def _choice(self, person: str) -> dict[str, bool] | None:
        """The newest words by purpose; None before the first, and where terms have changed since a yes."""
        door = self._gateway.door
        name = door.name(person) or person
        words = words_of(self._gateway.engine, [name]).get(name, {})
        if any(word.granted and word.version < door.terms[purpose] for purpose, word in words.items()):
            return None
        return {purpose: word.granted for purpose, word in words.items()} or None


def _person(request: Request) -> str:
    """The pseudonym in the cookie; empty where there is none that we gave."""
    found = request.cookies.get(COOKIE, "")
    known = found.startswith("w-") and len(found) == 34 and found[2:].isalnum() and found.isascii()
    return found if known else ""

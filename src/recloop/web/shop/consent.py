"""The consent centre: a choice for each purpose, changed at any time, and a visitor's own data.

The cookie's pseudonym is a random number of 122 bits that only the person's browser has: whoever shows it
may choose, read and erase what is known under it.
"""

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from recloop.delivery.problems import Problem
from recloop.store import PURPOSES, set_consents
from recloop.store.consent import SERVICE
from recloop.store.erasure import begin
from recloop.store.person import export, note_access
from recloop.store.vault import Vault
from recloop.web.shop import cookies
from recloop.web.shop.frame import Frame, to
from recloop.web.shop.guest import Guest, stranger

THEMSELVES = "the person, in the shop"  # in the access log
PLACES = {"home": "/", "privacy": "/privacy?saved"}


class Consent:
    """``/privacy``, ``/consent``, ``/privacy/export`` and ``/privacy/erase``."""

    def __init__(self, frame: Frame, vault: Callable[[], Vault]) -> None:
        self._frame, self._vault = frame, vault
        self.routes: list[Route] = [
            frame.shows("/privacy", self._show),
            frame.takes("/consent", self._choose),
            frame.takes("/privacy/export", self._export),
            frame.takes("/privacy/erase", self._erase),
        ]

    async def _show(self, request: Request, guest: Guest) -> Response:
        terms, said = self._frame.gateway.door.terms, {}
        for purpose in PURPOSES:
            sentences, word = [guest.text["said_nothing"]], guest.words.get(purpose)
            if word:
                day = datetime.fromtimestamp(word.ts / 1e6, UTC).date().isoformat()
                how = guest.text["said_yes" if word.granted else "said_no"]
                sentences = [how.format(day=day, version=word.version)]
                if word.granted and word.version < terms[purpose]:
                    sentences.append(guest.text["outdated"].format(version=terms[purpose]))
            said[purpose] = " ".join(sentences)
        return self._frame.page(
            "privacy.html",
            guest,
            purposes=PURPOSES,
            terms=terms,
            said=said,
            saved="saved" in request.query_params,
            unsure="unsure" in request.query_params,
            cookies=cookies.TOLD,
        )

    async def _choose(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        """A word on every purpose, or, of the switch, on the one that ``only`` names."""
        choice, only = form.get("choice", ""), form.get("only", "")
        if choice not in ("made", "none"):
            raise Problem(422, "choice must be made or none: an empty form is no answer", "choice")
        if only and only not in PURPOSES:
            raise Problem(422, f"only must be one of {', '.join(PURPOSES)}", "only")
        words = {purpose: form.get(purpose, "no") for purpose in ([only] if only else PURPOSES)}
        for purpose, word in words.items():
            if word not in ("yes", "no"):
                raise Problem(422, f"{purpose} must be yes or no", purpose)
        granted = {purpose: choice == "made" and word == "yes" for purpose, word in words.items()}
        person, door = guest.person or f"w-{uuid.uuid4().hex}", self._frame.gateway.door
        name = await run_in_threadpool(door.name, person, make=True) or person
        await run_in_threadpool(set_consents, self._frame.engine, name, granted, door.terms)
        door.heed([name])
        answer = to(PLACES.get(form.get("back", ""), "/"))
        cookies.put(answer, request, cookies.PERSON, person, cookies.YEAR)
        if not granted.get(SERVICE, True):
            cookies.drop(answer, cookies.SEEN)
        return answer

    async def _export(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        def gather() -> dict:
            note_access(self._frame.engine, THEMSELVES, "export", guest.name)
            return export(self._frame.engine, self._vault(), guest.name)

        found = await run_in_threadpool(gather) if guest.person else {}
        named = {"content-disposition": 'attachment; filename="recloop.json"', "cache-control": "no-store"}
        body = json.dumps(found, ensure_ascii=False, indent=1)
        return Response(body, headers=named, media_type="application/json")

    async def _erase(self, request: Request, guest: Guest, form: Mapping[str, str]) -> Response:
        if form.get("sure") != "yes":
            return RedirectResponse("/privacy?unsure#own", 303)
        if not guest.person:
            return to("/privacy")

        def erase() -> str:
            note_access(self._frame.engine, THEMSELVES, "erase", guest.name)
            return begin(self._frame.engine, self._vault(), guest.name).receipt

        receipt = await run_in_threadpool(erase)
        self._frame.gateway.door.heed([guest.name])
        answer = self._frame.page("erased.html", replace(stranger(request), cart=()), receipt=receipt)
        cookies.drop(answer, *(name for name in cookies.TOLD if name != cookies.LANGUAGE_COOKIE))
        return answer

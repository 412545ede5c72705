"""What a person may ask of the marketplace about themselves, over HTTP: consents, their data, why, erasure.

Ids stand in bodies, never in paths, which proxies write into their logs.
"""

from collections.abc import Callable
from typing import Annotated

import msgspec
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery.door import Door
from recloop.delivery.problems import Problem, decoded, require_json
from recloop.delivery.why import TEXTS, why
from recloop.intake.consents import take_consents
from recloop.intake.reasons import Unfit
from recloop.serving.messages import Identifier
from recloop.settings.tokens import FEEDBACK, PERSON
from recloop.store import PURPOSES, StoreError, set_consents
from recloop.store.consent import SERVICE, allowed, words_of
from recloop.store.erasure import begin
from recloop.store.person import export, note_access
from recloop.store.personal import seal_personal
from recloop.store.statements import Heard
from recloop.store.vault import Vault

LIMIT, MANY_LIMIT = 1 << 16, 1 << 20  # bytes of a body, and of one with many words
MOST_WORDS = 5000  # of one request, for whom others wait who write
SCOPES = {
    "/person/consents": FEEDBACK,
    "/person/import-consents": PERSON,
    "/person/data": PERSON,
    "/person/export": PERSON,
    "/person/erase": PERSON,
    "/person/why": PERSON,
}
MOST = dict.fromkeys(SCOPES, 64) | {"/person/import-consents": 4}  # requests at once


class Whose(msgspec.Struct, forbid_unknown_fields=True):
    """``POST /person/export`` and ``/person/erase``."""

    user_id: Identifier


class Words(Whose, forbid_unknown_fields=True):
    """``POST /person/consents``; without words it only asks."""

    consents: dict[str, bool] = {}


class Data(Whose, forbid_unknown_fields=True):
    """``POST /person/data``: personal data to be sealed, by field."""

    fields: dict[Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,32}$(?!\n)")], str]


class Question(Whose, forbid_unknown_fields=True):
    """``POST /person/why``."""

    request_id: Identifier
    item_id: Identifier
    language: str = "en"


class Persons:
    """The routes of one gateway."""

    def __init__(self, engine: Engine, door: Door, vault: Callable[[], Vault]) -> None:
        self._engine, self._door, self._vault = engine, door, vault
        handlers = (self._consents, self._import, self._data, self._export, self._erase, self._why)
        self.routes = [
            Route(path, handler, methods=["POST"]) for path, handler in zip(SCOPES, handlers, strict=True)
        ]

    async def _consents(self, request: Request) -> Response:
        wanted = decoded(_WORDS, await require_json(request, LIMIT))
        if unknown := set(wanted.consents) - set(PURPOSES):
            raise Problem(422, f"a purpose is one of {', '.join(PURPOSES)}", f"consents.{min(unknown)}")

        def act() -> dict:
            name = self._door.name(wanted.user_id, make=any(wanted.consents.values()))
            if name and wanted.consents:
                set_consents(self._engine, name, wanted.consents, self._door.terms)
                self._door.heed([name])
                note_access(self._engine, _who(request), "consents", name)
            words = words_of(self._engine, [name]).get(name, {}) if name else {}
            may = allowed(words, self._door.terms, assumed=False)
            said = {purpose: msgspec.to_builtins(word) for purpose, word in words.items()}
            return {"allowed": sorted(may), "words": said, "terms": self._door.terms}

        return await _answer(act)

    async def _import(self, request: Request) -> Response:
        rows = decoded(_MANY, await require_json(request, MANY_LIMIT))
        if len(rows) > MOST_WORDS:
            raise Problem(413, f"{len(rows)} words in one request, {MOST_WORDS} at most", "body")

        def act() -> dict:
            terms, who = self._door.terms, _who(request)
            became, new = take_consents(self._engine, rows, terms, who, "http", self._door.naming)
            self._door.heed(new)
            wrong = [(row, str(why)) for row, why in enumerate(became) if isinstance(why, Unfit)]
            return {
                "new": became.count(Heard.NEW),
                "same": became.count(Heard.SAME),
                "refused": [
                    {"row": row, "field": why.partition(":")[0], "reason": why} for row, why in wrong
                ],
            }

        return await _answer(act)

    async def _data(self, request: Request) -> Response:
        wanted = decoded(_DATA, await require_json(request, LIMIT))
        visitor = await self._door.visitor(wanted.user_id)
        if not visitor.kept or not visitor.sure:
            raise Problem(409, f"nothing is stored of who has not agreed to the purpose {SERVICE}", "user_id")

        def act() -> dict:
            seal_personal(self._engine, self._vault(), visitor.user_id, wanted.fields)
            note_access(self._engine, _who(request), "store data", visitor.user_id)
            return {"fields": sorted(wanted.fields)}

        return await _answer(act)

    async def _export(self, request: Request) -> Response:
        wanted = decoded(_WHOSE, await require_json(request, LIMIT))

        def act() -> dict:
            name = self._door.name(wanted.user_id)
            if name is None:
                return {"user_id": None}
            note_access(self._engine, _who(request), "export", name)
            return export(self._engine, self._vault(), name)

        return await _answer(act)

    async def _erase(self, request: Request) -> Response:
        wanted = decoded(_WHOSE, await require_json(request, LIMIT))

        def act() -> dict:
            name = self._door.name(wanted.user_id)
            if name is None:
                raise Problem(404, "this account is not known here", "user_id")
            note_access(self._engine, _who(request), "erase", name)
            receipt = begin(self._engine, self._vault(), name)
            self._door.heed([name])
            return msgspec.to_builtins(receipt)

        return await _answer(act, 202)

    async def _why(self, request: Request) -> Response:
        wanted = decoded(_QUESTION, await require_json(request, LIMIT))
        if wanted.language not in TEXTS:
            raise Problem(422, f"language must be one of {', '.join(TEXTS)}", "language")
        visitor = await self._door.visitor(wanted.user_id)

        def act() -> dict:
            note_access(self._engine, _who(request), "why", visitor.user_id)
            asked = visitor.user_id, wanted.request_id, wanted.item_id
            return {"why": why(self._engine, *asked, self._door.assumed, wanted.language)}

        return await _answer(act)


def _who(request: Request) -> str:
    return request.scope.get("recloop.who") or "loopback"


async def _answer(act: Callable[[], dict], status: int = 200) -> Response:
    """What ``act`` gives, from a thread."""
    try:
        found = await run_in_threadpool(act)
    except (SQLAlchemyError, StoreError) as error:
        raise Problem(503, f"this cannot be done now ({type(error).__name__})", later=True) from error
    return Response(msgspec.json.encode(found), status, media_type="application/json")


_WHOSE, _WORDS = msgspec.json.Decoder(Whose), msgspec.json.Decoder(Words)
_MANY = msgspec.json.Decoder(list)
_DATA, _QUESTION = msgspec.json.Decoder(Data), msgspec.json.Decoder(Question)

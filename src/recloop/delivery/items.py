"""The item database over HTTP: read, search, write one or many, take away."""

from collections.abc import Awaitable, Callable

import msgspec
from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recloop.delivery.meters import Meters
from recloop.delivery.problems import Problem, decoded, require_json
from recloop.intake.items import parse_items, reason_of
from recloop.schema import Item, now_us
from recloop.settings.tokens import OPERATE, READ
from recloop.store import (
    Put,
    Refused,
    add_items,
    append,
    fault_of,
    find_items,
    remove_items,
    search_items,
    versions_of,
)

ONE_LIMIT, MANY_LIMIT = 1 << 16, 1 << 20  # bytes of one item, and of many
MOST_ITEMS = 1000  # of one request, for whom others wait who write
MOST_SHOWN, SHOWN = 100, 20
LONGEST_SEARCH = 200  # characters
SCOPES = {
    "/items": OPERATE,
    "GET /items": READ,
    "/items/*": OPERATE,
    "GET /items/*": READ,
}
MOST = {"/items": 16, "/items/*": 32}  # requests at once
Handler = Callable[[Request], Awaitable[object]]


class Items:
    """The routes under ``/items``. Each that writes has written when it answers."""

    def __init__(self, engine: Engine, meters: Meters) -> None:
        self._engine, self._meters = engine, meters
        self._many, self._one = msgspec.json.Decoder(list), msgspec.json.Decoder(dict)

    @property
    def routes(self) -> list[Route]:
        """For Starlette."""
        return [
            self._route("/items", "GET", self._list),
            self._route("/items", "POST", self._put_many),
            self._route("/items/{item_id}", "GET", self._show),
            self._route("/items/{item_id}", "PUT", self._put),
            self._route("/items/{item_id}", "DELETE", self._remove),
            self._route("/items/{item_id}/versions", "GET", self._versions),
        ]

    def _route(self, path: str, method: str, handler: Handler) -> Route:
        async def answered(request: Request) -> Response:
            status = 500
            try:
                content = await handler(request)
                status = 200
            except SQLAlchemyError as error:
                status = 503
                why = f"the store cannot be used now ({fault_of(error)}): send it again later"
                raise Problem(status, why, later=True) from error
            except HTTPException as error:
                status = error.status_code
                raise
            finally:
                self._meters.answered.labels(path, status).inc()
            return Response(msgspec.json.encode(content), media_type="application/json")

        return Route(path, answered, methods=[method])

    async def _list(self, request: Request) -> object:
        given = dict(request.query_params)
        if unknown := set(given) - {"search", "category", "after", "limit"}:
            name = min(unknown)
            raise Problem(422, f"{name[:64]!r} is none of search, category, after, limit", name[:64])
        limit = given.get("limit", f"{SHOWN}")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit[:9]) <= MOST_SHOWN):
            raise Problem(422, f"limit must be a number from 1 to {MOST_SHOWN}", "limit")
        for name, value in given.items():
            if "\0" in value or len(value) > LONGEST_SEARCH:
                raise Problem(422, f"{name} may have {LONGEST_SEARCH} characters, none of them NUL", name)
        found = await run_in_threadpool(
            search_items,
            self._engine,
            given.get("search"),
            given.get("category"),
            given.get("after", ""),
            int(limit),
        )
        more = found[-1].item_id if len(found) == int(limit) else None
        return {"items": [one.model_dump() for one in found], "next": more}

    async def _show(self, request: Request) -> object:
        found = await run_in_threadpool(find_items, self._engine, [_id(request)])
        if not found:
            raise Problem(404, "there is no such item", "item_id")
        return found[0].model_dump()

    async def _versions(self, request: Request) -> object:
        found = await run_in_threadpool(versions_of, self._engine, _id(request))
        if not found:
            raise Problem(404, "there never was such an item", "item_id")
        return [{"ts": one.ts, "removed": one.removed, "item": one.item.model_dump()} for one in found]

    async def _put(self, request: Request) -> object:
        item_id = request.path_params["item_id"]
        body = decoded(self._one, await require_json(request, ONE_LIMIT))
        if body.setdefault("item_id", item_id) != item_id:
            raise Problem(422, "the body's item_id is not that of the address", "item_id")
        try:
            offer = Item.model_validate(body)
        except ValidationError as error:
            raise Problem(422, reason_of(error), ".".join(map(str, error.errors()[0]["loc"]))) from error
        done = await run_in_threadpool(add_items, self._engine, [offer], born=now_us())
        return {"item_id": item_id, "outcome": _outcome(done)}

    async def _put_many(self, request: Request) -> object:
        rows = decoded(self._many, await require_json(request, MANY_LIMIT))
        if len(rows) > MOST_ITEMS:
            raise Problem(413, f"{len(rows)} items in one request, {MOST_ITEMS} at most", "body")
        good, wrong = parse_items(rows)
        if wrong:
            refused = [Refused("http", "item", why, rows[place]) for place, why in wrong.items()]
            await run_in_threadpool(append, self._engine, refused=refused)
        done = await run_in_threadpool(add_items, self._engine, good, born=now_us())
        named = [{"row": n, "field": why.partition(":")[0], "reason": why} for n, why in wrong.items()]
        return {"new": done.new, "changed": done.changed, "same": done.same, "refused": named}

    async def _remove(self, request: Request) -> object:
        item_id = _id(request)
        if not await run_in_threadpool(remove_items, self._engine, [item_id]):
            raise Problem(404, "there is no such item", "item_id")
        return {"item_id": item_id, "outcome": "removed"}


def _id(request: Request) -> str:
    """The id in the address; what cannot be one is not looked for."""
    item_id = request.path_params["item_id"]
    if "\0" in item_id or len(item_id) > 64:
        raise Problem(404, "there is no such item", "item_id")
    return item_id


def _outcome(done: Put) -> str:
    return "new" if done.new else "changed" if done.changed else "same"

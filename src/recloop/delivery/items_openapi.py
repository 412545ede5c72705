"""What the OpenAPI document says of ``/items``."""

from typing import Any

from recloop.schema import Item
from recloop.serving.openapi import GUARDED, WRONG, refusals

EXAMPLE = {
    "item_id": "t00042",
    "title": "Logo design for cafés · 카페를 위한 로고 디자인",
    "category": "design",
    "price": 120.0,
    "available": True,
    "attributes": {"skills": "logo|branding", "rating": 4.8},
    "text": "카페 로고를 디자인해 드립니다",
    "image": "https://cdn.example.com/t00042.jpg",
    "created_at": 1764000000000000,
}
_GIVEN = Item.model_json_schema()
_HELD = Item.model_json_schema(mode="serialization")
ITEM_SCHEMAS: dict[str, Any] = {
    "Item": _GIVEN | {"example": EXAMPLE},
    "ItemHeld": _HELD | {"required": sorted(_HELD["properties"])},
    "ItemFields": _GIVEN | {"required": ["title"]},
}
_STORE = {"503": "the store cannot be used now"}
_WRITE = WRONG | _STORE | {"415": "the body must be JSON, and say so"}
_UNKNOWN = {"404": "there is no such item"}
_COUNT = {"type": "integer"}
_ID = {
    "name": "item_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_:-][A-Za-z0-9._:-]{0,63}$"},
}
_OPERATE: dict[str, Any] = {"security": [{"token": []}]}  # never free, whatever listens where


def _query(name: str, what: str, **schema: object) -> dict:
    return {"name": name, "in": "query", "description": what, "schema": schema}


def _object(**properties: object) -> dict:
    return {"type": "object", "properties": properties, "required": sorted(properties)}


def _ref(name: str) -> dict:
    return {"$ref": f"#/components/schemas/{name}"}


def _answers(schema: dict, reasons: dict[str, str]) -> dict:
    done = {"description": "done", "content": {"application/json": {"schema": schema}}}
    return {"responses": {"200": done, **refusals(reasons)}}


def _body(schema: dict) -> dict:
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_LIST = {
    "summary": "Items in the order of their ids: all, of a category, or those that have all words",
    "parameters": [
        _query("search", "words; each may be the beginning of one", type="string", maxLength=200),
        _query("category", "only of this category", type="string", maxLength=64),
        _query("after", "go on after this id, as `next` says", type="string", maxLength=64),
        _query("limit", "so many at most; 20 by default", type="integer", minimum=1, maximum=100),
    ],
} | _answers(
    _object(items={"type": "array", "items": _ref("ItemHeld")}, next={"type": ["string", "null"]}),
    GUARDED | _STORE | {"422": "a parameter is unknown or out of its range"},
)
_REFUSED = _object(row=_COUNT, field={"type": "string"}, reason={"type": "string"})
_PUT_MANY = (
    {"summary": "Insert or replace up to 1000 items; bad ones are quarantined and named, the others are put"}
    | _OPERATE
    | _body({"type": "array", "maxItems": 1000, "items": _ref("Item")})
    | _answers(
        _object(new=_COUNT, changed=_COUNT, same=_COUNT, refused={"type": "array", "items": _REFUSED}),
        _WRITE,
    )
)
_OUTCOME = _object(item_id={"type": "string"}, outcome={"enum": ["new", "changed", "same", "removed"]})
_VERSIONS = {
    "type": "array",
    "items": _object(ts=_COUNT, removed={"type": "boolean"}, item=_ref("ItemHeld")),
}
ITEM_PATHS: dict[str, Any] = {
    "/items": {"get": _LIST, "post": _PUT_MANY},
    "/items/{item_id}": {
        "parameters": [_ID],
        "get": {"summary": "One item"} | _answers(_ref("ItemHeld"), GUARDED | _STORE | _UNKNOWN),
        "put": {"summary": "Insert or replace one item; what is left out is as by default"}
        | _OPERATE
        | _body(_ref("ItemFields"))
        | _answers(_OUTCOME, _WRITE),
        "delete": {"summary": "Take an item out of the catalogue; the log and its versions stay"}
        | _OPERATE
        | _answers(_OUTCOME, GUARDED | _STORE | _UNKNOWN),
    },
    "/items/{item_id}/versions": {
        "parameters": [_ID],
        "get": {"summary": "What the item was, from when on (µs since 1970), oldest first"}
        | _answers(_VERSIONS, GUARDED | _STORE | _UNKNOWN),
    },
}

"""The gateway's OpenAPI document: what a slot has, and what only the gateway does."""

from typing import Any

from recloop.delivery.items_openapi import ITEM_PATHS, ITEM_SCHEMAS
from recloop.delivery.persons import MOST_WORDS
from recloop.intake.profiles import Motion
from recloop.serving.messages import IDENTIFIER
from recloop.serving.openapi import CONFLICT, DOCUMENT, GUARDED, WRONG, refusals
from recloop.store import PURPOSES

SLOT: dict[str, Any] = dict(DOCUMENT)

EXAMPLE = [
    {"user_id": "p000001", "item_id": "t00042", "kind": "purchase", "value": 12.5, "request_id": "4f1c"}
]
LATER = {"415": "the body must be JSON, and say so", "503": "the store cannot be written now"}


def _result(properties: dict[str, dict]) -> dict:
    schema = {"type": "object", "properties": properties, "required": sorted(properties)}
    return {"description": "done", "content": {"application/json": {"schema": schema}}}


def _get(summary: str, kind: str) -> dict:
    answers = {"200": {"description": "it", "content": {kind: {}}}} | refusals(GUARDED)
    return {"get": {"summary": summary, "responses": answers}}


def _also(path: str) -> dict:
    """A slot's route, with what only a gateway answers."""
    post = SLOT["paths"][path]["post"]
    return {"post": post | {"responses": post["responses"] | refusals(LATER)}}


_EVENTS = {
    "summary": "Acts of feedback; answered when they are on disk. Bad ones are quarantined and named",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Feedback"}},
                "example": EXAMPLE,
            }
        },
    },
    "responses": {
        "200": _result(
            {
                "accepted": {"type": "integer"},
                "repeated": {"type": "integer"},
                "refused": {"type": "array", "items": {"type": "string"}},
                "rows": {"type": "array", "items": {"enum": ["new", "repeated", "refused", "unconsented"]}},
            }
        ),
        **refusals(WRONG | LATER | {"409": CONFLICT}),
    },
}
_FORM = {
    "type": "object",
    "properties": {
        "kind": {"enum": ["signup", "survey"]},
        "user_id": {"type": "string", "pattern": IDENTIFIER},
        "answers": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "ts": {"type": "integer"},
    },
    "required": ["kind", "user_id", "answers"],
    "additionalProperties": False,
}
_READING = {
    "type": "object",
    "properties": {
        "kind": {"const": "sensor"},
        "user_id": {"type": "string", "pattern": IDENTIFIER},
        "latitude": {"type": "number", "minimum": -90, "maximum": 90},
        "longitude": {"type": "number", "minimum": -180, "maximum": 180},
        "motion": {"enum": list(Motion)},
        "ts": {"type": "integer"},
    },
    "required": ["kind", "user_id"],
    "additionalProperties": False,
}
_PROFILES = {
    "summary": "Forms, surveys and readings of sensors; answered when they are on disk",
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": {"oneOf": [_FORM, _READING]}},
                "example": [{"kind": "survey", "user_id": "p000001", "answers": {"likes": "logos"}}],
            }
        },
    },
    "responses": {
        "200": _result(
            {"accepted": {"type": "integer"}, "refused": {"type": "array", "items": {"type": "string"}}}
        ),
        **refusals(WRONG | LATER),
    },
}
_ABORT = {
    "summary": "Stop the open rollout; the challenger gets nobody any more",
    "security": [{"token": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {"why": {"type": "string"}},
                    "required": ["why"],
                    "additionalProperties": False,
                },
                "example": {"why": "complaints about the slates"},
            }
        },
    },
    "responses": {
        "200": _result({"rollout": {"type": "integer"}, "state": {"type": "string"}}),
        **refusals(WRONG | LATER | {"409": "no rollout is open"}),
    },
}
_NAME = {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,64}$"}
_FIELD = {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,32}$"}


def _person(
    summary: str, more: dict[str, dict], needed: list[str], status: str, others: dict[str, str]
) -> dict:
    """A route about one person, whose id is in the body."""
    schema = {
        "type": "object",
        "properties": {"user_id": _NAME} | more,
        "required": ["user_id", *needed],
        "additionalProperties": False,
    }
    answers = {
        status: {"description": "done", "content": {"application/json": {"schema": {"type": "object"}}}}
    }
    return {
        "post": {
            "summary": summary,
            "security": [{"token": []}],
            "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
            "responses": answers | refusals(WRONG | LATER | others),
        }
    }


_WORD = {
    "type": "object",
    "properties": {
        "user_id": _NAME,
        "purpose": {"enum": list(PURPOSES)},
        "granted": {"type": "boolean"},
        "version": {"type": "integer", "minimum": 1},
        "ts": {"type": "integer", "minimum": 0, "description": "microseconds since 1970, UTC; else now"},
    },
    "required": ["user_id", "purpose", "granted"],
    "additionalProperties": False,
}
_IMPORT = {
    "summary": "Words of many people, recorded when it answers. Bad ones are quarantined and named",
    "security": [{"token": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": _WORD, "maxItems": MOST_WORDS},
                "example": [
                    {"user_id": "kim", "purpose": "training", "granted": False, "ts": 1760104536000000}
                ],
            }
        },
    },
    "responses": {
        "200": _result(
            {
                "new": {"type": "integer"},
                "same": {"type": "integer"},
                "refused": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {
                            "row": {"type": "integer"},
                            "field": {"type": "string"},
                            "reason": {"type": "string"},
                        },
                    },
                },
            }
        ),
        **refusals(WRONG | LATER),
    },
}
_PERSON = {
    "/person/consents": _person(
        "What a person agrees to, by purpose; without words, what they have agreed to",
        {"consents": {"type": "object", "additionalProperties": {"type": "boolean"}}}, [], "200", {},
    ),
    "/person/import-consents": {"post": _IMPORT},
    "/person/data": _person(
        "Personal data to be kept sealed, by field",
        {"fields": {"type": "object", "propertyNames": _FIELD, "additionalProperties": {"type": "string"}}},
        ["fields"], "200", {"409": "the person has not agreed that anything is stored"},
    ),
    "/person/export": _person("All that is known of a person", {}, [], "200", {}),
    "/person/erase": _person(
        "Erase a person: the receipt of what was begun", {}, [], "202", {"404": "the account is not known"}
    ),
    "/person/why": _person(
        "Why a person was shown an item, in sentences",
        {"request_id": _NAME, "item_id": _NAME, "language": {"enum": ["en", "ko"]}},
        ["request_id", "item_id"], "200", {},
    ),
}  # fmt: skip
GATEWAY: dict[str, Any] = SLOT | {
    "info": {"title": "recloop gateway", "version": "1"},
    "paths": {
        "/recommend": _also("/recommend"),
        "/feedback": _also("/feedback"),
        "/events": {"post": _EVENTS},
        "/profiles": {"post": _PROFILES},
        "/rollout/abort": {"post": _ABORT},
        **_PERSON,
        "/healthz": _get("Whether the gateway serves; degraded without routing or store", "application/json"),
        "/status": _get("Routing and the open rollout", "application/json"),
        "/metrics": _get("Prometheus metrics", "text/plain"),
        **ITEM_PATHS,
    },
    "components": SLOT["components"] | {"schemas": SLOT["components"]["schemas"] | ITEM_SCHEMAS},
}

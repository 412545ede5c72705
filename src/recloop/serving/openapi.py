"""The slot's OpenAPI document: schemas from the messages themselves, examples by hand."""

import msgspec

from recloop.schema import Slate
from recloop.serving.messages import Ask, Feedback, Refusal

_SCHEMAS, _PARTS = msgspec.json.schema_components(
    [Ask, Feedback, Refusal], ref_template="#/components/schemas/{name}"
)
_PARTS["Slate"] = Slate.model_json_schema(ref_template="#/components/schemas/{model}")
EXAMPLES = {
    "Ask": {"user_id": "p000001", "context": {"device": "phone"}, "k": 5},
    "Feedback": {"user_id": "p000001", "item_id": "t00042", "kind": "click", "request_id": "4f1c"},
    "Slate": {
        "request_id": "4f1c",
        "items": ["t00042", "t00007"],
        "titles": [
            "Logo design for cafés · 카페를 위한 로고 디자인",
            "Piano lessons for families · 가족을 위한 피아노 레슨",
        ],
        "scores": [3.2, 2.9],
        "propensities": [0.41, 0.37],
        "policy": "dqn-0123456789",
        "cold_start": False,
        "fallback": False,
    },
    "Accepted": {"accepted": 1, "event_id": "9b2e"},
    "Refusal": {"error": "Expected `int` >= 1 - at `$.k`", "field": "k"},
}
_PARTS["Accepted"] = {
    "type": "object",
    "properties": {"accepted": {"type": "integer"}, "event_id": {"type": "string"}},
    "required": ["accepted", "event_id"],
}


def content(name: str) -> dict:
    """A JSON body of the named schema, with its example."""
    return {
        "application/json": {
            "schema": {"$ref": f"#/components/schemas/{name}"},
            "example": EXAMPLES[name],
        }
    }


def refusals(reasons: dict[str, str]) -> dict:
    """Answers that say why not."""
    return {status: {"description": why, "content": content("Refusal")} for status, why in reasons.items()}


def operation(summary: str, body: str, result: str, reasons: dict[str, str]) -> dict:
    """One POST route."""
    return {
        "post": {
            "summary": summary,
            "requestBody": {"required": True, "content": content(body)},
            "responses": {"200": {"description": "done", "content": content(result)}} | refusals(reasons),
        }
    }


GUARDED = {
    "401": "the token is missing or not known",
    "403": "the token lacks the scope that this needs",
    "429": "too many requests or rows; Retry-After says when to come again",
}
WRONG = GUARDED | {
    "400": "the body is not JSON",
    "413": "the body is too long",
    "422": "a field is unknown, missing, of another type or out of its range",
}
CONFLICT = "an act's event_id is known with another body; all others are on disk"
_SLATE = operation("A slate for a person; a stranger gets a cold start", "Ask", "Slate", WRONG)
_ACT = operation(
    "One act of feedback; answered when it is on disk",
    "Feedback",
    "Accepted",
    WRONG | {"409": CONFLICT, "503": "the store cannot be written now"},
)
_MANIFEST = {
    "description": "the manifest",
    "content": {
        "application/json": {
            "schema": {"type": "object", "properties": {"name": {"type": "string"}}},
            "example": {
                "name": "dqn-0123456789",
                "format": 1,
                "algorithm": "dqn",
                "n_items": 200,
                "slate": 5,
                "temperature": 0.3,
                "exploration": 0.05,
                "propensity_floor": 0.0,
                "candidates": None,
                "files": {"scorer.onnx": "64 hexadecimal digits of its sha256"},
            },
        }
    },
}


def _get(summary: str, answer: dict) -> dict:
    return {"get": {"summary": summary, "responses": {"200": answer} | refusals(GUARDED)}}


DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "recloop slot", "version": "1"},
    "paths": {
        "/recommend": _SLATE,
        "/feedback": _ACT,
        "/policy": _get("The manifest of the policy that serves, and its name", _MANIFEST),
        "/livez": _get("Whether the process lives", {"description": "it does"}),
        "/readyz": _get("Whether it takes requests", {"description": "it does"}),
        "/metrics": _get("Prometheus metrics", {"description": "as text"}),
    },
    "components": {
        "schemas": _PARTS,
        "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
    },
    "security": [{"token": []}, {}],  # whether a token is needed depends on where it listens
}
# Swagger UI from the files that BentoML brings; its own page at / would also call on Google.
PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"><title>recloop slot</title>
<link rel="stylesheet" href="./static_content/swagger-ui.css">
</head>
<body>
<p>This slot is described by <a href="./openapi.json">openapi.json</a>.</p>
<div id="swagger-ui"></div>
<script src="./static_content/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "./openapi.json", dom_id: "#swagger-ui"})</script>
</body>
</html>
"""

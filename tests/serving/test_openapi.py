"""The OpenAPI document describes every route, and its examples are true."""

import json
from collections.abc import Iterator

import msgspec
from starlette.routing import Route
from starlette.testclient import TestClient

from recloop.schema import Slate
from recloop.serving.messages import Ask, Feedback, Refusal
from recloop.serving.openapi import EXAMPLES
from recloop.serving.recommender import Recommender
from tests.serving.conftest import open_app


def references(part: object) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for value in part.values():
            yield from references(value)
    elif isinstance(part, list):
        for value in part:
            yield from references(value)


def test_every_route_is_described(slot: TestClient, recommender: Recommender) -> None:
    document = slot.get("/openapi.json").json()
    assert slot.get("/docs.json").json() == document
    assert document["openapi"].startswith("3.")
    for route in open_app(recommender).routes:
        assert isinstance(route, Route)
        if route.path in ("/openapi.json", "/docs.json", "/"):
            continue
        described = document["paths"][route.path]
        assert {method.lower() for method in (route.methods or set()) - {"HEAD"}} == set(described)
        for operation in described.values():
            assert operation["summary"]
            assert "200" in operation["responses"]


def test_every_reference_leads_somewhere(slot: TestClient) -> None:
    document = slot.get("/openapi.json").json()
    found = set(references(document))
    assert "#/components/schemas/Slate" in found
    for reference in found:
        part = document
        for key in reference.removeprefix("#/").split("/"):
            part = part[key]


def test_the_examples_are_what_the_slot_takes_and_gives(slot: TestClient) -> None:
    msgspec.convert(EXAMPLES["Ask"], Ask)
    msgspec.convert(EXAMPLES["Feedback"], Feedback)
    msgspec.convert(EXAMPLES["Refusal"], Refusal)
    Slate.model_validate(EXAMPLES["Slate"])
    assert set(slot.post("/recommend", json=EXAMPLES["Ask"]).json()) == set(EXAMPLES["Slate"])
    assert set(slot.post("/feedback", json=EXAMPLES["Feedback"]).json()) == set(EXAMPLES["Accepted"])
    refused = slot.post("/recommend", json={"user_id": "p000001", "k": 0})
    assert refused.json() == EXAMPLES["Refusal"]
    document = slot.get("/openapi.json").json()
    example = document["paths"]["/policy"]["get"]["responses"]["200"]["content"]["application/json"][
        "example"
    ]
    assert set(slot.get("/policy").json()) == set(example)
    bodies = json.dumps(document["paths"]["/recommend"]["post"]["requestBody"])
    assert json.dumps(EXAMPLES["Ask"]) in bodies

"""The item database over HTTP."""

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from recloop.delivery import items
from recloop.delivery.items_openapi import EXAMPLE, ITEM_PATHS
from recloop.schema import Item
from recloop.settings import load_params, places
from recloop.store import find_items, open_store
from recloop.store.tables import quarantine
from recloop.web.app import create
from tests.web.test_access import ROOT

TOKEN = "a-token-of-a-test-that-is-long"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A gateway on loopback: who reads needs no token, who writes has one."""
    where = places(home=tmp_path_factory.mktemp("home"), store_url="", token=TOKEN)
    app = create(where, load_params(ROOT / "params.yaml"))
    with TestClient(app, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        client.engine = open_store(where.store)
        yield client


@pytest.fixture(autouse=True)
def _empty(gateway):
    for one in find_items(gateway.engine):
        gateway.delete(f"/items/{one.item_id}")


def test_an_item_is_put_read_changed_and_taken_away(gateway):
    body = {key: value for key, value in EXAMPLE.items() if key != "item_id"}
    assert gateway.put("/items/x1", json=body).json() == {"item_id": "x1", "outcome": "new"}
    assert gateway.put("/items/x1", json=body).json()["outcome"] == "same"
    assert gateway.get("/items/x1").json() == EXAMPLE | {"item_id": "x1"}
    assert gateway.put("/items/x1", json=body | {"price": 9.0}).json()["outcome"] == "changed"
    assert gateway.delete("/items/x1").json() == {"item_id": "x1", "outcome": "removed"}
    assert gateway.get("/items/x1").status_code == gateway.delete("/items/x1").status_code == 404
    found = gateway.get("/items/x1/versions").json()
    assert [(one["item"]["price"], one["removed"]) for one in found] == [
        (120.0, False), (9.0, False), (9.0, True),
    ]  # fmt: skip
    assert found[0]["ts"] == EXAMPLE["created_at"]
    assert found[0]["ts"] < found[1]["ts"] < found[2]["ts"]
    assert gateway.get("/items/nobody/versions").status_code == 404


def test_a_new_item_that_does_not_say_when_it_was_created_was_created_now(gateway):
    gateway.put("/items/born", json={"title": "t"})
    first = gateway.get("/items/born").json()["created_at"]
    assert first > 1_700_000_000_000_000
    gateway.put("/items/born", json={"title": "u"})
    assert gateway.get("/items/born").json()["created_at"] == first


def test_of_many_the_good_ones_are_put_and_the_others_named_and_quarantined(gateway):
    sent = [EXAMPLE, {"item_id": "b"}, {"item_id": "c", "title": "c", "image": "file:///etc/passwd"}, 7]
    answer = gateway.post("/items", json=sent).json()
    assert (answer["new"], answer["changed"], answer["same"]) in ((1, 0, 0), (0, 1, 0))
    assert [(one["row"], one["field"]) for one in answer["refused"]] == [
        (1, "title"), (2, "image"), (3, "item"),
    ]  # fmt: skip
    with gateway.engine.connect() as connection:
        rows = connection.execute(select(quarantine).where(quarantine.c.kind == "item")).all()
    assert [row.reason.partition(":")[0] for row in rows] == ["title", "image", "item"]
    assert "/etc/passwd" in rows[1].body
    assert [one.item_id for one in find_items(gateway.engine)] == ["t00042"]


def test_too_many_are_refused_as_a_whole(gateway, monkeypatch):
    monkeypatch.setattr(items, "MOST_ITEMS", 2)
    sent = [{"item_id": f"i{n}", "title": "t"} for n in range(3)]
    assert gateway.post("/items", json=sent).status_code == 413
    assert find_items(gateway.engine) == []


def test_pages_of_a_search_in_korean(gateway):
    sent = [{"item_id": f"i{n}", "title": f"로고 디자인을 {n}", "category": "ab"[n % 2]} for n in range(5)]
    gateway.post("/items", json=sent)
    found, after = [], ""
    while after is not None:
        given = {"search": "디자인 로고", "category": "a", "limit": 2, "after": after}
        page = gateway.get("/items", params=given).json()
        found, after = found + [one["item_id"] for one in page["items"]], page["next"]
    assert found == ["i0", "i2", "i4"]
    assert len(gateway.get("/items").json()["items"]) == 5


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"limit": "0"}, "limit"), ({"limit": "101"}, "limit"), ({"limit": "x"}, "limit"),
        ({"limit": "٣"}, "limit"), ({"search": "x" * 201}, "search"), ({"after": "\0"}, "after"),
        ({"q": "logo"}, "q"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_named(gateway, given, field):
    answer = gateway.get("/items", params=given)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


@pytest.mark.parametrize(
    ("body", "field"),
    [({"title": "t", "item_id": "other"}, "item_id"), ({}, "title"), ({"title": "t", "x": 1}, "x"),
     ({"title": "t", "attributes": {"a": [1]}}, "attributes.a")],
)  # fmt: skip
def test_a_wrong_field_is_named(gateway, body, field):
    answer = gateway.put("/items/x2", json=body)
    assert answer.status_code == 422
    assert answer.json()["field"].startswith(field)


def test_an_id_that_can_be_none_is_not_found_and_not_put(gateway):
    for path in ("/items/%00", "/items/" + "x" * 65):
        assert gateway.get(path).status_code == gateway.delete(path).status_code == 404
        assert gateway.put(path, json={"title": "t"}).status_code == 422


def test_reading_is_free_on_loopback_and_writing_never_is(gateway):
    gateway.put("/items/free", json={"title": "t"})
    bare = {"authorization": ""}
    for path in ("/items", "/items/free", "/items/free/versions"):
        assert gateway.get(path, headers=bare).status_code == 200
        assert gateway.head(path, headers=bare).status_code == 200
    assert gateway.put("/items/free", json={"title": "u"}, headers=bare).status_code == 401
    assert gateway.post("/items", json=[], headers=bare).status_code == 401
    for method in ("DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert gateway.request(method, "/items/free", headers=bare).status_code in (401, 405), method
    assert gateway.get("/items/free").json()["title"] == "t"


def test_every_route_is_described_and_the_example_is_an_item(gateway):
    described = {(method.upper(), path) for path, row in ITEM_PATHS.items() for method in row} - {
        ("PARAMETERS", path) for path in ITEM_PATHS
    }
    routes = {
        (method, route.path)
        for route in gateway.app.routes
        if route.path.startswith("/items")
        for method in route.methods - {"HEAD"}
    }
    assert routes == described
    assert Item(**EXAMPLE).model_dump() == EXAMPLE
    assert "Item" in gateway.get("/openapi.json").json()["components"]["schemas"]

"""Logs: JSON lines, one id from request to impressions, and no person in them, whatever fails."""

import asyncio
import io
import json
import logging
import sqlite3

import pytest
from sqlalchemy import select
from starlette.testclient import TestClient

from recloop.policy import load
from recloop.schema import Item
from recloop.serving.app import create_app
from recloop.serving.journal import JsonLines, log_as_json
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens, load_params, places
from recloop.settings.tokens import READ, add_token
from recloop.store import add_items, open_store
from recloop.store.tables import impressions
from recloop.web.app import create
from tests.serving.conftest import FREE, folder  # noqa: F401
from tests.web.test_access import ROOT

PERSON = ("Minji-Kim", "minji.kim@example.com", "user-4711")


@pytest.fixture
def lines(monkeypatch):
    """What was logged since, as objects; everything is logged."""
    written, root = io.StringIO(), logging.getLogger()
    monkeypatch.setattr("sys.stderr", written)
    monkeypatch.setattr("logging.raiseExceptions", True)  # put back in the end
    before = root.handlers, root.level
    log_as_json("", "debug")

    def since():
        found = [json.loads(line) for line in written.getvalue().split("\n")[:-1]]
        written.seek(0)
        written.truncate()
        return [row for row in found if not row["logger"].startswith("httpx")]

    yield since
    root.handlers = before[0]
    root.setLevel(before[1])


@pytest.fixture
def where(tmp_path):
    where = places(home=tmp_path, store_url="", token="t")
    add_items(open_store(where.store), [Item(item_id="i1", title="One")])
    return where


@pytest.fixture
def gateway(where, lines):
    with TestClient(
        create(where, load_params(ROOT / "params.yaml")), raise_server_exceptions=False
    ) as client:
        yield client


@pytest.fixture
def slot(where, folder, lines):  # noqa: F811
    app = create_app(Recommender(load(folder), Past(where.store)), Tokens({}), FREE)
    return TestClient(app, raise_server_exceptions=False)


def send_everywhere(client, word):
    """The word in every field, header, query, path and method."""
    act = {"user_id": "u", "item_id": "i1", "kind": "click", "value": 1.0, "request_id": "r", "event_id": "e"}
    ask = {"user_id": "u", "context": {"device": "phone"}, "k": 1, "exclude": []}
    for path, good in (("/recommend", ask), ("/feedback", act), ("/events", act)):
        wrap = (lambda body: [body]) if path == "/events" else (lambda body: body)
        for field in (*good, word):
            client.post(path, json=wrap(good | {field: word}))
        client.post(path, json=wrap(good | {"user_id": word, "context": {"device": word, word: word}}))
        client.post(path, content=f'{{"user_id": "{word}", "k": NaN}}', headers={"content-type": word})
    names = (
        "x-request-id",
        "user-agent",
        "authorization",
        "cookie",
        "accept-language",
        "origin",
        word.partition("@")[0],
    )
    for name in names:
        client.get("/", headers={name: word})
        client.post("/recommend", json=ask, headers={name: word})
    for path in (f"/{word}", f"/recommend/{word}", f"/static/{word}", f"/?lang={word}"):
        client.get(path)
        client.post(path, data={"personalisation": word})
    client.request(word.partition("@")[0], "/recommend", json=ask)
    client.post("/rollout/abort", json={"why": word}, headers={"authorization": "Bearer t"})


def no_person_in(found):
    assert found
    text = json.dumps(found, ensure_ascii=False)
    for word in PERSON:
        assert word not in text
        assert word.partition("@")[0] not in text
    for row in found:
        assert {"ts", "level", "logger", "message"} <= row.keys()


@pytest.mark.parametrize("word", PERSON)
@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_no_field_of_a_request_reaches_the_log(request, lines, which, word):
    client = request.getfixturevalue(which)
    lines()
    send_everywhere(client, word)
    found = lines()
    no_person_in(found)
    assert {"/recommend", "unknown"} <= {row.get("route") for row in found}
    assert not any(row.get("status", 0) >= 500 and row["route"] != "/recommend" for row in found)


@pytest.mark.parametrize("table", ["events", "impressions", "consents"])
@pytest.mark.parametrize("word", [PERSON[0], PERSON[2]])
def test_nor_does_what_the_store_says_when_it_fails(gateway, where, lines, table, word):
    add_items(open_store(where.store), [Item(item_id=word, title="One")])
    sqlite3.connect(where.home / "store.db").execute(f"DROP TABLE {table}").connection.close()
    lines()
    act = {"user_id": word, "item_id": word, "kind": "click", "event_id": word}
    statuses = {
        gateway.post("/feedback", json=act).status_code,
        gateway.post("/recommend", json={"user_id": word}).status_code,
        gateway.post("/consent", data={"choice": "made", "service": "yes"}).status_code,
    }
    assert 503 in statuses
    no_person_in(lines())


def test_what_nobody_foresaw_is_a_500_with_an_id_that_the_log_has(gateway, lines, monkeypatch):
    def broken(*_):
        raise RuntimeError(f"cannot serve {PERSON[0]}")

    monkeypatch.setattr("recloop.delivery.gateway.Gateway._fallback", broken)
    lines()
    answer = gateway.post("/recommend", json={"user_id": PERSON[2]})
    found = lines()
    no_person_in(found)
    (row,) = [row for row in found if row.get("status") == 500]
    assert (row["level"], row["error"]) == ("error", "RuntimeError")
    assert answer.status_code == 500
    assert row["id"] == answer.headers["x-request-id"]
    assert row["id"] in answer.json()["error"]
    assert any("gateway.py:" in place for place in row["places"])


def test_other_libraries_messages_stand_without_what_they_put_in(lines, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG, "asyncio")  # DVC silences it on import
    for name in ("uvicorn", "uvicorn.error"):  # a server in this process silences both
        caplog.set_level(logging.DEBUG, name)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)

    def fail():
        raise ValueError(PERSON[1])

    logging.getLogger("some.library").warning("cannot use %s", PERSON[0])
    logging.getLogger("asyncio").error("never retrieved\nfuture: <Task %s>", PERSON[2])
    try:
        fail()
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    found = lines()
    no_person_in(found)
    assert [row["message"] for row in found][:2] == ["cannot use %s", "never retrieved"]
    assert found[2]["error"] == "ValueError"


def test_one_id_leads_from_the_answer_to_the_impressions_and_to_the_slot(gateway, slot, where, lines):
    token = add_token(where.token_list, "shop", [READ])
    lines()
    answer = gateway.post("/recommend", json={"user_id": "u"}, headers={"authorization": f"Bearer {token}"})
    (row,) = [row for row in lines() if row["message"] == "request"]
    request_id = answer.json()["request_id"]
    assert answer.headers["x-request-id"] == row["id"] == request_id
    assert (row["method"], row["route"], row["status"], row["who"]) == ("POST", "/recommend", 200, "shop")
    assert row["ms"] > 0
    with open_store(where.store).connect() as connection:
        assert set(connection.execute(select(impressions.c.request_id)).scalars()) == {request_id}
    slot.post("/recommend", json={"user_id": "u"}, headers={"x-request-id": request_id})
    (row,) = [row for row in lines() if row["message"] == "request"]
    assert row["for"] == request_id != row["id"]


def test_levels_say_what_matters(gateway, lines):
    lines()
    for ask in (
        lambda: gateway.get("/healthz"),
        lambda: gateway.post("/recommend", json={}),
        lambda: gateway.post("/rollout/abort", json={}),
    ):
        ask()
    found = [(row["route"], row["level"]) for row in lines() if row["message"] == "request"]
    assert found == [("/healthz", "info"), ("/recommend", "info"), ("/rollout/abort", "warning")]


@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_a_body_that_comes_in_parts_is_counted_as_it_comes(request, which):
    """Straight at the app: no length is announced, and it ends only when it is cut."""
    app, read, sent = request.getfixturevalue(which).app, [0], []

    async def receive():
        read[0] += 1
        return {"type": "http.request", "body": b" " * 8192, "more_body": True}

    async def send(message):
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/recommend",
        "headers": [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")],
        "query_string": b"",
    }
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    limit = {"gateway": 1 << 20, "slot": 64 * 1024}[which]
    assert read[0] <= limit // 8192 + 1


def test_a_line_is_one_object_whatever_is_in_it():
    record = logging.LogRecord("recloop.x", logging.INFO, "", 0, 'a "quoted"\nsecond %s', ("\u2028",), None)
    text = JsonLines().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == 'a "quoted"\nsecond \u2028'

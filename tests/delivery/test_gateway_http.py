"""What the gateway takes, what it refuses and how it says so."""

import json

import httpx
import pytest
from sqlalchemy import func, select

from recloop.delivery import Target, rollout
from recloop.schema import now_us
from recloop.store import set_consent
from recloop.store.tables import events, impressions, quarantine
from tests.delivery.live import TOKEN, Live, until
from tests.delivery.standin import Standin

DAY_US = 86_400_000_000
CLICK = {"user_id": "u", "item_id": "i1", "kind": "click"}


@pytest.fixture(scope="module")
def slot():
    with Standin("old") as slot:
        yield slot


@pytest.fixture(scope="module")
def live(tmp_path_factory, slot):
    live = Live(tmp_path_factory.mktemp("home"))
    rollout.install(live.engine, "blue", Target(slot.url, "old"), "test", "first")
    with live:
        yield live


def count(live, table):
    with live.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_impressions_are_what_the_slot_said(live):
    slate = live.ask("someone", k=3, exclude=["i0"], context={"device": "phone"}).json()
    query = select(impressions).where(impressions.c.request_id == slate["request_id"])
    with live.engine.connect() as connection:
        rows = connection.execute(query.order_by(impressions.c.position)).mappings().all()
    assert [row["item_id"] for row in rows] == slate["items"] == ["i1", "i2", "i3"]
    assert [row["position"] for row in rows] == [0, 1, 2]
    for row in rows:
        assert (row["propensity"], row["policy"], row["slot"]) == (0.5, "old", "blue")
        assert (row["user_id"], row["device"]) == ("someone", "phone")
        assert abs(row["ts"] - now_us()) < 30_000_000


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "user_id"),
        ({"user_id": "u", "k": 0}, 422, "k"),
        ({"user_id": "u", "k": 101}, 422, "k"),
        ({"user_id": "u", "nonsense": 1}, 422, "nonsense"),
        ({"user_id": "a b"}, 422, "user_id"),
        ({"user_id": 7}, 422, "user_id"),
        ({"user_id": "u", "context": {"ts": 5}}, 422, "context.ts"),
        ({"user_id": "u", "context": {"device": 1}}, 422, "context.device"),
        ([], 422, "body"),
    ],
)
def test_a_wrong_field_is_named(live, body, status, field):
    answer = live.client.post("/recommend", json=body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


@pytest.mark.parametrize("raw", [b"", b"{", b'{"user_id": NaN}', b"\xff\xfe", b'"\\ud800"', b"[" * 60_000])
@pytest.mark.parametrize("path", ["/recommend", "/feedback", "/events"])
def test_what_is_no_json_is_refused_without_an_error(live, path, raw):
    answer = live.client.post(path, content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert answer.json()["error"]


ASK, ACT = '{"user_id": "u", ', '{"user_id": "u", "item_id": "i1", "kind": "click", '


@pytest.mark.parametrize(
    ("path", "raw", "status", "field"),
    [
        ("/recommend", ASK + '"k": NaN}', 400, "k"),
        ("/recommend", ASK + '"k": -Infinity}', 400, "k"),
        ("/recommend", ASK + '"k": 1e999}', 422, "k"),
        ("/recommend", ASK + '"context": {"ts": NaN}}', 400, "ts"),
        ("/recommend", ASK + '"context": {"ts": 1e999}}', 422, "context.ts"),
        ("/recommend", ASK + '"context": {"device": "%s"}}' % ("x" * 33), 422, "context.device"),
        ("/recommend", ASK + '"exclude": [' + ",".join(['"i1"'] * 1001) + "]}", 422, "exclude"),
        ("/recommend", '{"user_id": "%s"}' % ("u" * 65), 422, "user_id"),
        ("/feedback", ACT + '"value": NaN}', 400, "value"),
        ("/feedback", ACT + '"value": Infinity}', 400, "value"),
        ("/feedback", ACT + '"value": 1e400}', 422, "value"),
        ("/events", "[" + ACT + '"value": NaN}]', 400, "value"),
        ("/events", "[" + ACT + '"value": -1e400}]', 422, "value"),
        ("/events", "[" + ACT + '"ts": 1e30}]', 422, "ts"),
    ],
)
def test_what_is_not_finite_or_too_large_is_named_and_never_ranked(live, slot, path, raw, status, field):
    before = count(live, impressions), count(live, events), len(slot.seen())
    answer = live.client.post(path, content=raw, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
    assert (count(live, impressions), count(live, events), len(slot.seen())) == before


@pytest.mark.parametrize("depth", [100, 400, 600, 800, 900, 950, 970, 980, 990, 1000])
def test_a_deeply_nested_row_is_refused_not_an_error(live, depth):
    raw = b"[" * depth + b"]" * depth
    answer = live.client.post("/events", content=raw, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)


def test_only_json_is_taken_and_only_so_much(live):
    plain = live.client.post("/feedback", content=json.dumps(CLICK), headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    long = b"[" + b" " * (2 << 20) + b"]"
    kinds = {"content-type": "application/json"}
    answer = live.client.post("/events", content=long, headers=kinds)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")
    asked = json.dumps({"user_id": "u"}).encode()
    assert live.client.post("/recommend", content=asked.ljust(1 << 16), headers=kinds).status_code == 200
    answer = live.client.post("/recommend", content=asked.ljust((1 << 16) + 1), headers=kinds)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")

    def drip():
        for _ in range(200):
            yield b" " * 10_000

    assert live.client.post("/events", content=drip(), headers=kinds).status_code == 413
    assert live.client.post("/events", json=[CLICK] * 5001).status_code == 413
    operator = {"authorization": f"Bearer {TOKEN}"}
    assert live.client.get("/nowhere", headers=operator).json() == {
        "error": "Not Found",
        "field": "",
    }


def test_good_rows_are_kept_bad_ones_quarantined_and_repeats_counted(live):
    before = count(live, events), count(live, quarantine)
    rows = [CLICK | {"event_id": "one"}, CLICK | {"event_id": "one"}, {"kind": "stare"}, 7]
    answer = live.client.post("/events", json=rows).json()
    assert (answer["accepted"], answer["repeated"], len(answer["refused"])) == (1, 1, 2)
    assert "user_id" in answer["refused"][0]
    assert (count(live, events), count(live, quarantine)) == (before[0] + 1, before[1] + 2)


def test_a_batch_with_nothing_good_is_a_client_s_error(live):
    before = count(live, quarantine)
    answer = live.client.post("/events", json=[CLICK | {"kind": "stare"}, CLICK | {"value": "x"}])
    assert (answer.status_code, answer.json()["field"]) == (422, "kind")
    assert "value" in answer.json()["error"]
    assert count(live, quarantine) == before + 2
    single = live.client.post("/feedback", json=CLICK | {"kind": "stare"})
    assert (single.status_code, single.json()["field"]) == (422, "kind")
    assert live.client.post("/events", json=[]).json() == {
        "accepted": 0,
        "repeated": 0,
        "refused": [],
        "rows": [],
    }


def test_feedback_is_metered_by_the_policy_that_it_answers(live):
    slate = live.ask("meter").json()
    act = {"user_id": "meter", "item_id": slate["items"][0], "request_id": slate["request_id"]}
    assert live.client.post("/feedback", json=act | {"kind": "click"}).json()["accepted"] == 1
    assert live.client.post("/feedback", json=act | {"kind": "dismiss"}).json()["accepted"] == 1
    text = live.client.get("/metrics").text
    assert 'recloop_reward_sum{policy="old"} 0.5' in text
    assert 'recloop_gateway_requests_total{route="/recommend",status="200"}' in text


def test_who_refuses_personalisation_is_a_stranger_to_the_slot(live, slot):
    set_consent(live.engine, "shy", "personalisation", False)
    set_consent(live.engine, "fickle", "personalisation", False)
    set_consent(live.engine, "fickle", "personalisation", True)
    set_consent(live.engine, "other", "marketing", False)

    def seen(user):
        request = live.ask(user).json()["request_id"]
        query = select(impressions.c.user_id).where(impressions.c.request_id == request)
        with live.engine.connect() as connection:
            assert set(connection.execute(query).scalars()) == {user}, "the log has the person's own id"
        return slot.seen()[-1]

    until(lambda: seen("shy").startswith("anon."))
    assert seen("shy") != seen("shy")
    assert (seen("fickle"), seen("other"), seen("silent")) == ("fickle", "other", "silent")
    set_consent(live.engine, "shy", "personalisation", True)
    until(lambda: seen("shy") == "shy")


def test_status_health_and_the_api_s_description(live):
    status = live.client.get("/status").json()
    assert status["routing"]["champion"] == "blue"
    assert status["rollout"] is None
    assert live.client.get("/healthz").json()["status"] == "ok"
    document = live.client.get("/openapi.json").json()
    for path in ("/recommend", "/feedback", "/events", "/rollout/abort", "/metrics", "/healthz", "/status"):
        assert path in document["paths"]
    for reference in {httpx.URL(r).fragment for r in _references(document)}:
        assert reference.rpartition("/")[2] in document["components"]["schemas"]


def _references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _references(part)


def test_without_routing_people_get_what_is_popular(tmp_path):
    with Live(tmp_path) as live:
        assert live.client.get("/healthz").json()["status"] == "degraded"
        live.client.post("/events", json=[CLICK | {"item_id": "i7", "event_id": f"p{n}"} for n in range(3)])
        assert live.ask("u").json()["fallback"]
        live.client.post("/feedback", json=CLICK)
    with Live(tmp_path) as live:
        assert live.ask("u", k=2).json()["items"] == ["i7", "i1"]
        answer = live.ask("u", exclude=[f"i{n}" for n in range(20)])
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")

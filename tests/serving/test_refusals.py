"""Whatever comes in: an answer, never a failure, and one that names what is wrong."""

import asyncio
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.types import Message

from recloop.schema import Slate
from recloop.serving.bodies import BODY_LIMIT
from recloop.serving.recommender import Recommender
from tests.serving.conftest import open_app

FIELDS = ("user_id", "context", "k", "exclude", "item_id", "kind", "value", "request_id", "event_id", "ts")
ASK, ACT = '{"user_id": "p"', '{"user_id": "p", "item_id": "i1", "kind": "click"'


@pytest.mark.parametrize(
    ("path", "body", "status", "field"),
    [
        ("recommend", "", 400, "body"),
        ("recommend", "{", 400, "body"),
        ("recommend", "[]", 422, "body"),
        ("recommend", "{}", 422, "user_id"),
        ("recommend", '{"user_id": 7}', 422, "user_id"),
        ("recommend", '{"user_id": ""}', 422, "user_id"),
        ("recommend", '{"user_id": "p\\n"}', 422, "user_id"),
        ("recommend", '{"user_id": "%s"}' % ("p" * 65), 422, "user_id"),
        ("recommend", ASK + ', "cheat": 1}', 422, "cheat"),
        ("recommend", ASK + ', "k": 0}', 422, "k"),
        ("recommend", ASK + ', "k": 101}', 422, "k"),
        ("recommend", ASK + ', "k": 2.5}', 422, "k"),
        ("recommend", ASK + ', "k": true}', 422, "k"),
        ("recommend", ASK + ', "k": NaN}', 400, "k"),
        ("recommend", ASK + ', "k": 1e999}', 422, "k"),
        ("recommend", ASK + ', "exclude": ["a", 1]}', 422, "exclude[1]"),
        ("recommend", ASK + ', "context": []}', 422, "context"),
        ("recommend", ASK + ', "context": {"mood": "good"}}', 422, "context.mood"),
        ("recommend", ASK + ', "context": {"device": 1}}', 422, "context.device"),
        ("recommend", ASK + ', "context": {"ts": -1}}', 422, "context.ts"),
        ("recommend", ASK + ', "context": {"ts": NaN}}', 400, "ts"),
        ("feedback", '{"user_id": "p", "kind": "click"}', 422, "item_id"),
        ("feedback", ACT[:-7] + '"steal"}', 422, "kind"),
        ("feedback", ACT + ', "value": NaN}', 400, "value"),
        ("feedback", ACT + ', "value": -Infinity}', 400, "value"),
        ("feedback", ACT + ', "value": 1e400}', 422, "value"),
        ("feedback", ACT + ', "value": -0.5}', 422, "value"),
        ("feedback", ACT.replace("click", "rating") + ', "value": 5.5}', 422, "value"),
        ("feedback", ACT + ', "ts": "today"}', 422, "ts"),
        ("feedback", ACT + ', "policy": "mine"}', 422, "policy"),
    ],
)
def test_what_is_wrong_is_named(slot: TestClient, path: str, body: str, status: int, field: str) -> None:
    answer = slot.post(f"/{path}", content=body)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["error"]


def test_bytes_that_are_no_text(slot: TestClient) -> None:
    answer = slot.post("/recommend", content=b'{"user_id": "\xff"}')
    assert (answer.status_code, answer.json()["field"]) == (400, "body")


def test_a_body_may_be_64_kib_and_no_more(slot: TestClient) -> None:
    body = (ASK + "}").encode()
    assert slot.post("/recommend", content=body.ljust(BODY_LIMIT)).status_code == 200
    answer = slot.post("/recommend", content=body.ljust(BODY_LIMIT + 1))
    assert (answer.status_code, answer.json()["field"]) == (413, "body")


def test_an_endless_body_is_not_read_to_its_end(recommender: Recommender) -> None:
    """No length is announced, so only counting helps."""
    app, read, sent = open_app(recommender), [0], []

    async def receive() -> Message:
        read[0] += 1
        return {"type": "http.request", "body": b" " * 8192, "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/recommend", "headers": [], "query_string": b"",
    }  # fmt: skip
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 413
    assert read[0] == BODY_LIMIT // 8192 + 1


WORDS = st.text() | st.sampled_from(["p", "click", "i1"])
KEYS = st.text() | st.sampled_from(FIELDS)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)
NEARLY = st.fixed_dictionaries(
    {"user_id": st.sampled_from(["p", "known"]) | st.text(max_size=3)},
    optional={
        "context": st.fixed_dictionaries({}, optional={"device": st.text(), "ts": st.integers()}),
        "k": st.integers(-1, 102) | st.floats(),
        "exclude": st.lists(st.sampled_from([f"i{n}" for n in range(7)]) | st.text(max_size=2)),
        "item_id": st.sampled_from(["i1", "i9"]) | st.text(max_size=2),
        "kind": st.sampled_from(["click", "rating", "steal"]),
        "value": st.floats() | st.integers(),
        "ts": st.integers(),
        "event_id": st.text(max_size=3),
    },
)


@given(body=st.one_of(st.binary(max_size=200), JSON, NEARLY), path=st.sampled_from(["recommend", "feedback"]))
@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_nothing_that_is_sent_breaks_the_slot(slot: TestClient, body: object, path: str) -> None:
    answer = slot.post(f"/{path}", content=body if isinstance(body, bytes) else json.dumps(body))
    if answer.status_code != 200:
        assert answer.status_code in (400, 413, 422)
        assert answer.json()["field"]
    elif path == "recommend":
        slate = Slate.model_validate_json(answer.content)
        assert len(slate.items) == len(slate.propensities) == len(set(slate.items)) >= 1


@pytest.mark.parametrize("shape", ["[" * 30_000, '{"context":' * 5_000, ASK + ', "exclude": ' + "[" * 30_000])
def test_deep_nesting(slot: TestClient, shape: str) -> None:
    assert slot.post("/recommend", content=shape).status_code in (400, 422)

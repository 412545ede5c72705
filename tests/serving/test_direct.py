"""What goes past BentoML's layers is as safe as what goes through them, and is counted."""

import asyncio

import pytest
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from recloop.serving.direct import Direct


class Notes:
    """In place of a meter."""

    def __init__(self) -> None:
        self.under_way, self.statuses = 0, []

    def begun(self) -> None:
        self.under_way += 1

    def ended(self, status: int, seconds: float) -> None:
        self.under_way -= 1
        self.statuses.append(status)
        assert seconds >= 0


async def waits(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def half(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await asyncio.Event().wait()


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("no")


@pytest.fixture
def notes() -> Notes:
    return Notes()


def open_direct(app, notes: Notes, seconds: float = 0.05) -> TestClient:
    return TestClient(Direct(PlainTextResponse("rest", 404), app, "/hot", notes, seconds))


def test_one_path_goes_to_the_app_and_is_counted(notes: Notes) -> None:
    client = open_direct(PlainTextResponse("hot", 201), notes, 60)
    assert [client.post(path).text for path in ("/hot", "/hot/", "/", "/metrics")] == ["hot"] + ["rest"] * 3
    assert client.get("/hot?x=1").text == "hot"
    assert (notes.statuses, notes.under_way) == ([201, 201], 0)


def test_what_takes_too_long_is_ended_with_504(notes: Notes) -> None:
    answer = open_direct(waits, notes).post("/hot")
    assert (answer.status_code, answer.json()["error"]) == (504, "this was not done in 0.05 s")
    assert (notes.statuses, notes.under_way) == ([504], 0)


def test_half_an_answer_is_cut(notes: Notes) -> None:
    with pytest.raises(TimeoutError):
        open_direct(half, notes).post("/hot")
    assert notes.under_way == 0


def test_a_failure_is_the_server_s_to_answer(notes: Notes) -> None:
    with pytest.raises(ValueError, match="no"):
        open_direct(fails, notes, 60).post("/hot")
    assert (notes.statuses, notes.under_way) == ([0], 0)

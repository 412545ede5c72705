"""Token buckets: the rate holds over any time, and memory has a bound."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from recloop.serving.app import create_app
from recloop.serving.limits import Buckets, client_key
from recloop.settings import Tokens
from recloop.settings.tokens import SCOPES
from tests.serving.conftest import FREE


@given(
    rate=st.floats(0.5, 50),
    pauses=st.lists(st.floats(0, 3), min_size=1, max_size=200),
)
def test_no_more_than_the_rate_and_a_second_s_worth_ever_pass(rate, pauses):
    now = [0.0]
    buckets, passed = Buckets(rate, clock=lambda: now[0]), 0
    for pause in pauses:
        now[0] += pause
        wait = buckets.wait("a")
        passed += not wait
        assert passed <= max(1.0, rate) + rate * now[0] + 1e-6
        if wait:
            later = Buckets(rate, clock=lambda: now[0])
            later._kept = buckets._kept.copy()
            now[0] += wait + 1e-9
            assert later.wait("a") == 0, "it passes when it was told to come again"
            now[0] -= wait + 1e-9


def test_one_client_does_not_use_up_another_s(monkeypatch):
    buckets = Buckets(2, clock=lambda: 0.0)
    assert [bool(buckets.wait("a")) for _ in range(4)] == [False, False, True, True]
    assert buckets.wait("a") == pytest.approx(0.5)
    assert buckets.wait("b") == 0


def test_memory_is_bounded_and_who_asked_last_is_remembered():
    buckets = Buckets(1, most=100, clock=lambda: 0.0)
    buckets.wait("mine")
    for n in range(5000):
        buckets.wait(f"other {n}")
        assert buckets.wait("mine") > 0
        assert len(buckets) <= 100


def test_a_client_is_an_address_or_a_household():
    assert client_key("2001:db8:1:2:3::4") == client_key("2001:db8:1:2:ffff::") == "2001:db8:1:2::/64"
    assert client_key("2001:db8:1:3::1") != client_key("2001:db8:1:2::1")
    assert client_key("::ffff:10.0.0.1") != client_key("::ffff:10.0.0.2")
    assert (client_key("10.0.0.1"), client_key("testclient"), client_key("")) == (
        "10.0.0.1",
        "testclient",
        "",
    )


def test_too_many_requests_are_told_when_to_come_again(recommender):
    slot = TestClient(create_app(recommender, Tokens({"s3cret": SCOPES}), FREE, 0.1))
    assert slot.get("/policy").status_code == 200
    answer = slot.get("/policy")
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "10")
    assert answer.json()["error"]
    assert slot.post("/feedback", json={}).status_code == 429, "one bucket for all routes"
    told = {"authorization": "Bearer s3cret"}
    assert slot.get("/policy", headers=told).status_code == 200, "a token has a bucket of its own"
    assert slot.get("/policy", headers=told).status_code == 429
    assert slot.get("/policy", headers={"authorization": "Bearer made-up"}).status_code == 429

"""Forms, surveys and sensors change a profile; a place is never kept more exactly than a cell."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloop.intake.profiles import judge_profiles
from recloop.schema import User
from recloop.store import Refused, add_users, find_user, open_store, set_consents
from recloop.store.profiles import Change, change_profiles
from recloop.store.quarantine import held
from tests.delivery.live import Live

NOW = 1_700_000_000_000_000
MINUTE = 60_000_000
SENSOR = {"kind": "sensor", "user_id": "u", "latitude": 37.56654321, "longitude": 126.97812345}
FORM = {"kind": "signup", "user_id": "u", "answers": {"age": 30, "region": "서울", "skill": "logos"}}


def judged(body, consent=True):
    (row,) = judge_profiles([body], lambda _: consent, NOW)
    return row


@pytest.mark.parametrize(
    ("latitude", "longitude", "cell"),
    [
        (37.56654321, 126.97812345, "37.5,126.9"),
        (-33.86, 151.21, "-33.9,151.2"),
        (0.0, -0.01, "0.0,-0.1"),
        (90, 180, "90.0,180.0"),
        (0.3, 0.7, "0.3,0.7"),
    ],
)
def test_a_place_becomes_the_cell_that_it_lies_in(latitude, longitude, cell):
    row = judged(SENSOR | {"latitude": latitude, "longitude": longitude, "motion": "walking"})
    assert row.attributes == {"cell": cell, "motion": "walking"}


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_every_place_is_in_its_cell(latitude, longitude):
    cell = judged(SENSOR | {"latitude": latitude, "longitude": longitude}).attributes["cell"]
    south, west = map(float, cell.split(","))
    assert south - 1e-6 <= latitude <= south + 0.1 + 1e-6
    assert west - 1e-6 <= longitude <= west + 0.1 + 1e-6


@pytest.mark.parametrize(
    ("body", "failure", "names"),
    [
        (SENSOR | {"latitude": 91}, "range", "sensor.latitude"),
        (SENSOR | {"latitude": float("nan")}, "range", "sensor.latitude"),
        (SENSOR | {"motion": "flying"}, "schema", "sensor.motion"),
        (SENSOR | {"ts": NOW - 61 * MINUTE}, "too-old", "ts: 61 minutes old"),
        (SENSOR | {"ts": NOW + 2 * MINUTE}, "range", "ts: in the future"),
        (FORM | {"ts": NOW + 2 * MINUTE}, "range", "ts: in the future"),
        ({"kind": "sensor", "user_id": "u", "latitude": 1.0}, "schema", "latitude and longitude"),
        ({"kind": "sensor", "user_id": "u"}, "schema", "latitude, longitude, motion"),
        (FORM | {"answers": {"age": 200}}, "range", "age"),
        (FORM | {"answers": {"sex": "woman"}}, "schema", "sex"),
        (FORM | {"answers": {"email": "a@b.c"}}, "schema", "answers.email: contact data"),
        (FORM | {"answers": {"skill": "x" * 129}}, "schema", "signup.answers.skill"),
        (FORM | {"answers": {}}, "schema", "signup.answers"),
        (FORM | {"answers": {"Not A Name": 1}}, "schema", "signup.answers"),
        (FORM | {"answers": {"region": "a\0b"}}, "schema", "answers.region: a NUL"),
        (FORM | {"kind": "poll"}, "schema", ""),
        (7, "schema", ""),
    ],
)
def test_what_is_wrong_is_named(body, failure, names):
    row = judged(body)
    assert isinstance(row, Refused)
    assert row.failure == failure
    assert row.reason.startswith(names)


@pytest.mark.parametrize("kind", ["sensor", "survey"])
def test_without_consent_nothing_is_noted(kind):
    body = SENSOR if kind == "sensor" else FORM | {"kind": "survey"}
    row = judged(body, consent=False)
    assert (row.failure, row.reason) == ("consent", f"user_id: a {kind} needs consent to personalisation")
    assert isinstance(judged(FORM, consent=False), Change)


@pytest.mark.parametrize(
    "body",
    [
        SENSOR | {"user_id": "a b"},
        {"kind": "x", "deep": [{"Latitude": "37.56654321", "lng": 126.97812345}]},
        SENSOR | {"latitude": [37.56654321]},
        SENSOR | {"ts": 5},
        SENSOR | {"latitude": 1e308},
        SENSOR | {"latitude": float("nan"), "longitude": 10**400},
        SENSOR | {"location": [37.56654, 126.97812]},
        SENSOR | {"at": {"x": 37.56654, "y": 126.97812}},
        SENSOR | {"motion": "37.56654,126.97812"},
        {"kind": "sensors", "user_id": "u", "place": "37.56654,126.97812"},
        {"kind": "poll", "user_id": "u", "37.56654": "126.97812"},
        "37.56654,126.97812",
        [37.56654, 126.97812],
        FORM | {"answers": {"latitude": 37.56654, "longitude": 126.97812}},
        FORM | {"answers": {"gps": "37.56654,126.97812"}},
        FORM | {"latitude": "37.56654N", "gps": [37.56654, 126.97812]},
    ],
)
def test_a_refused_place_is_not_kept_exactly_either(body):
    kept = json.dumps(judged(body).body)
    assert "37.56" not in kept
    assert "126.97" not in kept


def test_refused_contact_data_is_not_kept_either():
    body = FORM | {
        "answers": {"email": "kim@example.org", "Phone": "010-1234-5678"},
        "wrong": [{"Name": "Kim"}],
    }
    for row in (judged(body), judged(FORM | {"answers": body["answers"]})):
        assert not any(said in json.dumps(row.body) for said in ("kim@", "1234", '"Kim"'))


def test_a_change_leaves_the_rest_of_a_profile(store_url):
    engine = open_store(store_url)
    add_users(engine, [User(user_id="u", age=20, sex="F", attributes={"plan": "pro"}, created_at=5)])
    rows = judge_profiles([FORM, SENSOR | {"user_id": "v"}, SENSOR], lambda _: True, NOW)
    change_profiles(engine, rows)
    assert find_user(engine, "u") == User(
        user_id="u", age=30, sex="F", region="서울", created_at=5,
        attributes={"plan": "pro", "skill": "logos", "cell": "37.5,126.9"},
    )  # fmt: skip
    assert find_user(engine, "v").created_at == NOW


def test_the_newest_reading_of_a_batch_holds(store_url):
    engine = open_store(store_url)
    rows = [
        SENSOR | {"motion": m, "ts": NOW - n * MINUTE}
        for n, m in ((5, "still"), (1, "vehicle"), (3, "walking"))
    ]
    change_profiles(engine, judge_profiles(rows, lambda _: True, NOW))
    assert find_user(engine, "u").attributes["motion"] == "vehicle"


def test_contact_data_is_kept_nowhere_in_clear():
    for answers in ({"email": "kim@example.kr"}, {"reach": "kim at kim@example.kr"}):
        row = judged(FORM | {"answers": answers | {"skill": "logos"}})
        assert "contact data" in row.reason
        assert row.body == FORM | {"answers": dict.fromkeys(answers, "left out") | {"skill": "logos"}}


def test_of_who_did_not_agree_only_that_is_kept():
    for body in (SENSOR | {"motion": "walking"}, FORM | {"kind": "survey", "ts": NOW}):
        kept = judged(body, consent=False)
        assert kept.body == {"kind": body["kind"], "user_id": "u"}


def test_a_consent_to_older_terms_takes_no_reading(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_TERMS", '{"personalisation": 2}')
    with Live(tmp_path) as live:
        set_consents(live.engine, "u", {"service": True, "personalisation": True})
        assert live.client.post("/profiles", json=[SENSOR]).status_code == 422
        assert find_user(live.engine, "u") is None
        set_consents(live.engine, "u", {"personalisation": True}, {"personalisation": 2})
        assert live.client.post("/profiles", json=[SENSOR]).json()["accepted"] == 1


def test_over_http(tmp_path):
    with Live(tmp_path) as live:
        answer = live.client.post("/profiles", json=[FORM, SENSOR])
        assert (answer.status_code, answer.json()["accepted"]) == (200, 1)
        assert answer.json()["refused"] == ["user_id: a sensor needs consent to personalisation"]
        assert held(live.engine, 1)[0].failure == "consent"
        assert find_user(live.engine, "u").age == 30
        only_bad = live.client.post("/profiles", json=[{"kind": "poll"}])
        assert only_bad.status_code == 422
        assert live.client.post("/profiles", json=[FORM] * 501).status_code == 413
        assert live.client.post("/profiles", json=[]).json() == {"accepted": 0, "refused": []}

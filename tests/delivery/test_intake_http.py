"""Feedback over real HTTP: a row is taken, a repeat, a conflict or in quarantine; the answer says which."""

import json

import httpx
import pytest
from sqlalchemy import func, select

from recloop.delivery.processes import free_port
from recloop.intake.replay import replay
from recloop.schema import Item, now_us
from recloop.store import add_items
from recloop.store.quarantine import held
from recloop.store.tables import events, quarantine
from tests.delivery.live import Live, gateway_process

DAY_NS = 86_400_000_000_000
CLICK = {"user_id": "u", "item_id": "i1", "kind": "click"}
KIND = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    with Live(tmp_path_factory.mktemp("home")) as live:
        yield live


def count(live, table=events):
    with live.engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


def test_an_id_that_is_taken_is_named_and_all_others_stay(live):
    before = len(held(live.engine, 99, failure="duplicate"))
    assert live.client.post("/events", json=[CLICK | {"event_id": "a1"}]).json()["rows"] == ["new"]
    batch = [
        CLICK | {"event_id": "a2"},
        CLICK | {"event_id": "a1", "kind": "cart"},
        CLICK | {"event_id": "a1"},
        {"kind": "stare"},
        CLICK | {"event_id": "a3"},
    ]
    answer = live.client.post("/events", json=batch)
    found = answer.json()
    assert (answer.status_code, found["field"]) == (409, "event_id")
    assert "a1" in found["error"]
    assert found["rows"] == ["new", "conflict", "repeated", "refused", "new"]
    assert (found["accepted"], found["repeated"], len(found["refused"])) == (2, 1, 2)
    (row,) = held(live.engine, 1, failure="duplicate")
    assert row.reason == "event_id: a1 is known with another kind"
    assert json.loads(row.body)["kind"] == "cart"
    again = live.client.post("/events", json=batch).json()
    assert again["rows"] == ["repeated", "conflict", "repeated", "refused", "repeated"]
    assert len(held(live.engine, 99, failure="duplicate")) == before + 1


def test_too_many_acts_of_one_request_are_let_in_from_the_quarantine(live):
    acts = [CLICK | {"event_id": f"many-{n}"} for n in range(5001)]
    assert live.client.post("/events", json=acts).status_code == 413
    assert replay(live.engine, held(live.engine, 1)[0]) == 5001


def test_a_client_that_sends_bad_rows_again_fills_nothing(live):
    before, bad = count(live, quarantine), [CLICK | {"kind": f"stare{n}"} for n in range(3)]
    for _ in range(4):
        assert live.client.post("/events", json=[*bad, CLICK]).json()["rows"] == ["refused"] * 3 + ["new"]
        assert live.client.post("/events", content=b"[{again", headers=KIND).status_code == 400
    assert count(live, quarantine) == before + 4
    assert [row.seen for row in held(live.engine, 4)] == [4] * 4


def test_contact_data_that_somebody_adds_to_an_act_is_not_kept(live):
    contact = {"email": "kim@example.org", "memo": "010-1234-5678"}
    for act in (CLICK | contact, CLICK | contact | {"schema_version": "1.9", "item_id": "none-such"}):
        assert live.client.post("/events", json=[act]).status_code == 422
        found = json.loads(held(live.engine, 1)[0].body)
        assert found == act | {"email": "left out", "memo": "left out"}
    many = [CLICK | contact | {"event_id": f"c{n}"} for n in range(5001)]
    assert live.client.post("/events", json=many).status_code == 413
    assert "left out" in held(live.engine, 1)[0].body
    assert "kim@" not in held(live.engine, 1)[0].body


def test_one_act_that_clashes_is_409_and_its_repeat_is_not(live):
    act = CLICK | {"event_id": "single"}
    assert live.client.post("/feedback", json=act).json() == {"accepted": 1, "event_id": "single"}
    assert live.client.post("/feedback", json=act).json() == {"accepted": 0, "event_id": "single"}
    answer = live.client.post("/feedback", json=act | {"item_id": "i2"})
    assert (answer.status_code, answer.json()["field"]) == (409, "event_id")
    assert "single" in answer.json()["error"]
    assert "item_id" in held(live.engine, 1)[0].reason


def test_an_item_that_nobody_has_is_kept_until_it_is_there(live):
    answer = live.client.post(
        "/events", json=[CLICK, CLICK | {"item_id": "new-one", "event_id": "n1"}]
    ).json()
    assert answer["rows"] == ["new", "refused"]
    assert held(live.engine, 1)[0].failure == "reference"
    add_items(live.engine, [Item(item_id="new-one", title="New")])
    answer = live.client.post("/events", json=[CLICK | {"item_id": "new-one", "event_id": "n1"}]).json()
    assert answer["rows"] == ["new"], "it counts from the moment on at which it is in the store"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b'[{"user_id": "u", "value": NaN}]', 400),
        (b"[" * 60_000, 400),
        (b"[\xff\xfe]", 400),
        (b'{"user_id": "u"}', 422),
        (b'["' + b"a" * (10 << 20) + b'"]', 413),
        (json.dumps([CLICK] * 5001).encode(), 413),
    ],
)
def test_a_body_that_cannot_be_read_is_kept_as_it_came(live, raw, status):
    before = count(live, quarantine)
    assert live.client.post("/events", content=raw, headers=KIND).status_code == status
    assert count(live, quarantine) == before + 1
    row = held(live.engine, 1)[0]
    assert row.kind == "body"
    assert raw[:4].decode(errors="backslashreplace")[1:] in row.body.replace("\\\\", "\\").replace('\\"', '"')


def test_a_batch_that_comes_again_after_30_days_adds_nothing(tmp_path):
    """Also not to the quarantine, although by then its acts are too old for whoever brings them first."""
    clock = tmp_path / "clock"
    clock.write_text("0")
    live = Live(tmp_path / "home")
    batch = [CLICK | {"event_id": f"d{n}", "ts": now_us()} for n in range(50)]
    unseen = CLICK | {"event_id": "unseen", "ts": now_us()}
    process = gateway_process(tmp_path / "home", port := free_port(), clock=clock)
    try:
        live.client = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        assert live.client.post("/events", json=batch).json()["accepted"] == 50
        clock.write_text(str(30 * DAY_NS))
        again = live.client.post("/events", json=batch)
        assert (again.status_code, again.json()["repeated"]) == (200, 50)
        assert (count(live), count(live, quarantine)) == (50, 0)
        late = live.client.post("/events", json=[*batch, unseen, batch[0] | {"kind": "cart"}])
        assert late.status_code == 409
        assert late.json()["rows"] == ["repeated"] * 50 + ["refused", "conflict"]
        assert "30.0 days old" in late.json()["refused"][0]
        assert count(live) == 50
    finally:
        process.terminate()
        process.wait(60)

"""Slots hang, lie and die, the store locks, the gateway is killed: people get an answer, the log is right."""

import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import func, select

from recloop.delivery import Routing, Target, gateway, read_routing, rollout
from recloop.delivery.exchange import IN_A_ROW, REST_SECONDS
from recloop.delivery.following import EVERY
from recloop.delivery.processes import free_port
from recloop.delivery.routing import write_routing
from recloop.schema import Item
from recloop.store import Writer, add_items, open_store
from recloop.store.tables import events, impressions
from tests.delivery.live import Live, gateway_process, until
from tests.delivery.standin import MODES, Standin


def canary(live, slots, share=1.0):
    opened = rollout.begin(live.engine, "new", "test", "try")
    rollout.start_canary(live.engine, opened.id, "green", Target(slots[1].url, "new"), share, "test", "go")
    live.settled(read_routing(live.engine)[0])
    return opened


def logged(live, request_id):
    query = select(impressions).where(impressions.c.request_id == request_id).order_by(impressions.c.position)
    with live.engine.connect() as connection:
        return connection.execute(query).mappings().all()


def attempts(live, slot, outcome):
    name = "recloop_slot_requests_total"
    labels = {"slot": slot, "policy": {"blue": "old", "green": "new"}[slot], "outcome": outcome}
    text = live.client.get("/metrics").text
    wanted = name + "{" + ",".join(f'{k}="{labels[k]}"' for k in ("outcome", "policy", "slot")) + "}"
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(wanted))


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("ok", "hang")])
def test_an_answer_that_does_not_hold_together_is_not_passed_on(live, slots, mode):
    canary(live, slots)
    slots[1].behave(mode)
    slate = live.ask("u").json()
    assert (slate["policy"], slate["fallback"]) == ("old", False)
    assert {row["slot"] for row in logged(live, slate["request_id"])} == {"blue"}
    outcome = {"error": "status", "cut": "unreachable"}.get(mode, "invalid")
    assert attempts(live, "green", outcome) == 1


@pytest.mark.usefixtures("hurried")
def test_a_slot_that_hangs_is_given_up_and_the_other_one_answers(live, slots):
    canary(live, slots)
    slots[1].behave("hang")
    begun = time.monotonic()
    slate = live.ask("u").json()
    assert slate["policy"] == "old"
    assert time.monotonic() - begun > 1.5, "it was waited for, within the slot's time"
    assert attempts(live, "green", "timeout") == 1


def test_a_slot_that_fails_again_and_again_is_asked_last_until_it_is_well(live, slots, clock):
    canary(live, slots)
    slots[1].behave("error")
    for rests in range(3):
        assert {live.ask(f"u{n}").json()["policy"] for n in range(20)} == {"old"}
        assert attempts(live, "green", "status") == IN_A_ROW + rests, "one person in a second waits for it"
        clock[0] += REST_SECONDS
    slots[1].behave("ok")
    assert {live.ask(f"u{n}").json()["policy"] for n in range(20)} == {"new"}


def test_killed_slots_one_then_both(tmp_path):
    with Standin("old") as blue, Standin("new") as green:
        live = Live(tmp_path)
        rollout.install(live.engine, "blue", Target(blue.url, "old"), "test", "first")
        with live:
            canary(live, (blue, green))
            assert live.ask("u").json()["policy"] == "new"
            green.process.kill()
            assert live.ask("u").json()["policy"] == "old"
            blue.process.kill()
            answer = live.ask("u", k=3, exclude=["i0"])
            slate = answer.json()
            assert answer.status_code == 200
            assert (slate["fallback"], slate["policy"], len(slate["items"])) == (True, "fallback", 3)
            assert "i0" not in slate["items"]
            rows = logged(live, slate["request_id"])
            assert [(r["item_id"], r["propensity"], r["policy"], r["slot"]) for r in rows] == [
                (item, 1.0, "fallback", "") for item in slate["items"]
            ]


@pytest.mark.slow
def test_no_request_fails_while_routing_switches_a_hundred_times_under_load(live, slots):
    opened = canary(live, slots, share=0.5)
    rollout.promote(live.engine, opened.id, "test", "both stay in routing")
    targets = read_routing(live.engine)[1].slots
    failed, policies, stop = [], [], threading.Event()

    def browse(number):
        with httpx.Client(base_url=live.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/recommend", json={"user_id": f"u{number}"})
                if answer.status_code != 200 or answer.json()["fallback"]:
                    failed.append(answer.text)
                else:
                    policies.append(answer.json()["policy"])

    threads = [threading.Thread(target=browse, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for n in range(100):
        colour = ("blue", "green")[n % 2]
        with live.engine.begin() as connection:
            write_routing(
                connection, read_routing(live.engine)[0], Routing(targets, colour), "test", "switch"
            )
        live.settled(read_routing(live.engine)[0])
    stop.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert min(policies.count("old"), policies.count("new")) > 20, "both served"
    with live.engine.connect() as connection:
        requests = connection.execute(select(func.count(impressions.c.request_id.distinct()))).scalar()
    assert requests == len(policies), "every answer is in the log, and nothing else"


def test_an_abort_takes_the_canary_s_people_away_and_needs_the_token(live, slots):
    opened = canary(live, slots)
    assert live.ask("u").json()["policy"] == "new"
    body = {"why": "complaints"}
    assert live.client.post("/rollout/abort", json=body).status_code == 401
    wrong = {"authorization": "Bearer wrong"}
    assert live.client.post("/rollout/abort", json=body, headers=wrong).status_code == 401
    assert rollout.current(live.engine) == rollout.history(live.engine)[0]
    token = {"authorization": f"Bearer {live.places.token.get_secret_value()}"}
    assert live.client.post("/rollout/abort", json=body, headers=token).json()["state"] == "aborted"
    until(lambda: live.ask("u").json()["policy"] == "old")
    assert EVERY < 1, "seconds between two looks at the routing"
    assert rollout.transitions_of(live.engine, opened.id)[0].why == "complaints"
    assert live.client.post("/rollout/abort", json=body, headers=token).status_code == 409


@pytest.mark.usefixtures("hurried")
def test_a_locked_store_says_come_back_and_loses_nothing(live, slots):
    acts = [{"event_id": f"e{n}", "user_id": "u", "item_id": "i1", "kind": "click"} for n in range(3)]
    lock = sqlite3.connect(live.places.home / "store.db", isolation_level=None)
    lock.execute("begin immediate")
    with ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(live.client.post, "/events", json=acts[: n + 1]) for n in range(2)]
        answers.append(pool.submit(live.ask, "u"))
        refused = [answer.result() for answer in answers]
    lock.execute("rollback")
    lock.close()
    for answer in refused:
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
    until(lambda: live.client.post("/events", json=acts).status_code == 200)
    with live.engine.connect() as connection:
        found = connection.execute(select(events.c.event_id).order_by(events.c.event_id)).scalars().all()
    assert found == ["e0", "e1", "e2"], "each once, whether it was written late or sent again"


@pytest.mark.usefixtures("hurried")
def test_a_full_queue_says_too_many(tmp_path, slots, monkeypatch):
    monkeypatch.setattr(gateway, "Writer", lambda engine: Writer(engine, capacity=1))
    with Live(tmp_path) as live:
        lock = sqlite3.connect(live.places.home / "store.db", isolation_level=None)
        lock.execute("begin immediate")
        statuses = []

        def send(n):
            act = {"user_id": "u", "item_id": "i1", "kind": "click", "event_id": f"e{n}"}
            statuses.append(httpx.post(f"{live.url}/feedback", json=act, timeout=60).status_code)

        threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lock.execute("rollback")
        lock.close()
    assert set(statuses) == {429, 503}


def test_routing_stays_when_the_store_cannot_be_read(live, slots):
    assert live.ask("u").json()["policy"] == "old"
    store = live.places.home / "store.db"
    with sqlite3.connect(store) as connection:
        connection.execute("alter table routing rename to lost")
    until(lambda: live.client.get("/status").json()["store_unread_seconds"] > 1)
    assert live.ask("u").json()["policy"] == "old"
    with sqlite3.connect(store) as connection:
        connection.execute("alter table lost rename to routing")
    until(lambda: live.client.get("/status").json()["store_unread_seconds"] < 1)


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(5)])
    port, acknowledged = free_port(), []
    process = gateway_process(tmp_path, port)

    def send(worker):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            for n in range(10_000):
                act = {"event_id": f"e{worker}-{n}", "user_id": "u", "item_id": "i1", "kind": "click"}
                try:
                    events_ok = client.post("/events", json=[act]).status_code == 200
                    slate = client.post("/recommend", json={"user_id": f"u{worker}"})
                except httpx.TransportError:
                    return
                if events_ok and slate.status_code == 200:
                    acknowledged.append((act["event_id"], slate.json()["request_id"]))

    threads = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    until(lambda: len(acknowledged) > 200)
    process.kill()
    process.wait()
    for thread in threads:
        thread.join()
    with engine.connect() as connection:
        kept = set(connection.execute(select(events.c.event_id)).scalars())
        shown = set(connection.execute(select(impressions.c.request_id)).scalars())
    assert {event for event, _ in acknowledged} <= kept
    assert {request for _, request in acknowledged} <= shown

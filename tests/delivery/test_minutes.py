"""What gateways counted is in the store by the minute, once, of every process."""

import asyncio
import json

import httpx
import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from recloop.delivery.meters import BUCKETS, Meters
from recloop.delivery.minutes import Minutes
from recloop.delivery.processes import free_port
from recloop.schema import Item, now_us
from recloop.store import add_items, open_store
from recloop.store.tables import minutes
from recloop.watch.seen import FromStore
from tests.delivery.live import TOKEN, Live, gateway_process


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def grown(engine, name):
    return FromStore(engine, {}, now_us() + 1).increases(name, 3600)


def rows(engine):
    with engine.connect() as connection:
        return connection.execute(select(minutes.c.gateway, minutes.c.counts)).all()


def test_each_row_holds_what_came_since_the_last_and_the_end_writes_the_rest(engine):
    async def serve():
        meters = Meters()
        meters.fallbacks.inc(5)  # before it is watched: a process that took over a file of counts
        async with Minutes(engine, meters.registry, every=0.05):
            meters.asked.labels("blue", "p", "ok").inc(3)
            before = len(rows(engine))
            async with asyncio.timeout(100):
                while len(rows(engine)) < before + 3:
                    await asyncio.sleep(0.05)
            meters.fallbacks.inc(2)

    asyncio.run(serve())
    asyncio.run(serve())
    assert grown(engine, "recloop_fallbacks_total") == {(): 4.0}
    labels = (("outcome", "ok"), ("policy", "p"), ("slot", "blue"))
    assert grown(engine, "recloop_slot_requests_total") == {labels: 6.0}
    assert len({row.gateway for row in rows(engine)}) == 2
    assert any(json.loads(row.counts) == {} for row in rows(engine)), (
        "nothing is written of what has not grown"
    )


def test_a_histogram_that_has_grown_says_of_all_its_bounds_how_much(engine):
    async def serve():
        meters = Meters()
        meters.slot_seconds.labels("green", "q").observe(0.1)  # before, and not since
        async with Minutes(engine, meters.registry):
            meters.slot_seconds.labels("blue", "p").observe(0.9)
            await asyncio.sleep(0)  # until it has begun

    asyncio.run(serve())
    found = {dict(labels)["le"]: x for labels, x in grown(engine, "recloop_slot_seconds_bucket").items()}
    assert found == {f"{le}": float(le > 0.9) for le in BUCKETS} | {"+Inf": 1.0}


def test_what_could_not_be_written_is_in_the_next_row(engine, monkeypatch):
    async def serve():
        meters = Meters()
        watching = Minutes(engine, meters.registry, every=3600)
        async with watching:
            meters.fallbacks.inc()
            with monkeypatch.context() as broken:
                broken.setattr(type(engine), "begin", away)
                watching._write()
            meters.fallbacks.inc()
            watching._write()

    def away(_):
        raise OperationalError("", {}, Exception("away"))

    asyncio.run(serve())
    assert grown(engine, "recloop_fallbacks_total") == {(): 2.0}


def test_a_gateway_writes_what_its_metrics_say(tmp_path):
    with Live(tmp_path) as live:
        for n in range(7):
            assert live.ask(f"u{n}").json()["fallback"]
        shown = live.client.get("/metrics").text
    assert "recloop_fallbacks_total 7.0" in shown
    assert grown(live.engine, "recloop_fallbacks_total") == {(): 7.0}
    found = grown(live.engine, "recloop_gateway_requests_total")
    assert found == {(("route", "/recommend"), ("status", "200")): 7.0}
    within = grown(live.engine, "recloop_gateway_seconds_bucket")
    assert within[(("le", "+Inf"), ("route", "/recommend"))] == 7.0


@pytest.mark.slow
def test_several_workers_write_what_their_one_exposition_says(tmp_path, nothing_left):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(9)])
    port = free_port()
    process = gateway_process(tmp_path, port, workers=2)
    try:
        for n in range(60):  # each on a connection of its own, so that both workers get some
            asked = httpx.post(f"http://127.0.0.1:{port}/recommend", json={"user_id": f"u{n}"}, timeout=60)
            assert asked.json()["fallback"]
        operator = {"Authorization": f"Bearer {TOKEN}"}
        shown = httpx.get(f"http://127.0.0.1:{port}/metrics", headers=operator, timeout=60).text
    finally:
        process.terminate()
        process.wait(60)
    assert "recloop_fallbacks_total 60.0" in shown
    assert grown(engine, "recloop_fallbacks_total") == {(): 60.0}
    assert len({row.gateway for row in rows(engine)}) == 2

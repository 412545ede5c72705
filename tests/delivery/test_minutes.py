"""What gateways counted is in the store by the minute, once, of every process."""

import asyncio
import json

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from recloop.delivery.meters import Meters
from recloop.delivery.minutes import Minutes
from recloop.schema import now_us
from recloop.store import open_store
from recloop.store.tables import minutes
from recloop.watch.seen import FromStore
from tests.delivery.live import Live


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def grown(engine, name):
    return FromStore(engine, {}, now_us() + 1).increases(name, 3600)


def test_each_row_holds_what_came_since_the_last_and_the_end_writes_the_rest(engine):
    async def serve():
        meters = Meters()
        meters.fallbacks.inc(5)  # before it is watched: a process that took over a file of counts
        async with Minutes(engine, meters.registry, every=0.05):
            meters.asked.labels("blue", "p", "ok").inc(3)
            await asyncio.sleep(0.2)
            meters.fallbacks.inc(2)

    asyncio.run(serve())
    asyncio.run(serve())
    assert grown(engine, "recloop_fallbacks_total") == {(): 4.0}
    labels = (("outcome", "ok"), ("policy", "p"), ("slot", "blue"))
    assert grown(engine, "recloop_slot_requests_total") == {labels: 6.0}
    with engine.connect() as connection:
        rows = connection.execute(select(minutes.c.gateway, minutes.c.counts)).all()
    assert len({row.gateway for row in rows}) == 2
    assert any(json.loads(row.counts) == {} for row in rows), "nothing is written of what has not grown"


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

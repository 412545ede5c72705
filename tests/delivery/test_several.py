"""Several gateways, and several workers of one: they agree, count together, and come back."""

import os
import signal
from contextlib import suppress

import httpx
import psutil
import pytest
from sqlalchemy import select

from recloop.delivery import Routing, Target, read_routing, rollout
from recloop.delivery.following import EVERY
from recloop.delivery.presence import gather
from recloop.delivery.processes import free_port
from recloop.delivery.routing import write_routing
from recloop.delivery.tally import shadow_name
from recloop.schema import Item
from recloop.store import add_items, open_store
from recloop.store.tables import events, gateways
from tests.delivery.live import gateway_process, until
from tests.delivery.standin import Standin

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def slots():
    with Standin("old") as blue, Standin("new") as green:
        yield {"blue": Target(blue.url, "old"), "green": Target(green.url, "new")}


@pytest.fixture
def engine(tmp_path, slots):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(20)])
    rollout.install(engine, "blue", slots["blue"], "test", "first")
    return engine


def ask(port, user):
    return httpx.post(f"http://127.0.0.1:{port}/recommend", json={"user_id": user}, timeout=60).json()


def serves(port, user="u"):
    """By a new connection, so that any worker may answer."""
    return ask(port, user)["policy"]


def switch(engine, slots, colour):
    with engine.begin() as connection:
        write_routing(connection, read_routing(engine)[0], Routing(slots, colour), "test", "switch")


def counted(port, name, **labels):
    lines = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text.splitlines()
    wanted = [f'{label}="{value}"' for label, value in labels.items()]
    return sum(
        float(line.split()[-1])
        for line in lines
        if line.partition("{")[0].split(" ")[0] == name and all(one in line for one in wanted)
    )


@pytest.mark.usefixtures("nothing_left")
def test_two_gateways_agree_within_a_second_and_after_a_restart(tmp_path, engine, slots):
    ports = [free_port(), free_port()]
    gateways = [gateway_process(tmp_path, port) for port in ports]
    try:
        for number in range(6):
            colour, policy = (("green", "new"), ("blue", "old"))[number % 2]
            switch(engine, slots, colour)
            until(lambda: all(serves(port) == policy for port in ports))  # noqa: B023
        gateways[0].kill()
        gateways[0].wait()
        switch(engine, slots, "green")
        until(lambda: serves(ports[1]) == "new")
        gateways[0] = gateway_process(tmp_path, ports[0])
        assert serves(ports[0]) == "new", "it begins with what holds now"
        assert EVERY < 1, "seconds between two looks at the routing"
    finally:
        for gateway in gateways:
            gateway.terminate()
            gateway.wait(60)


@pytest.mark.usefixtures("nothing_left")
def test_workers_of_one_port_agree_count_together_and_are_replaced(tmp_path, engine, slots):
    port = free_port()
    gateway = gateway_process(tmp_path, port, workers=2)
    try:
        until(lambda: len(workers(gateway)) == 2 and counted(port, "recloop_routing_version") == 1)
        asked = [ask(port, f"u{n}") for n in range(40)]
        counts = [counted(port, "recloop_slot_requests_total", slot="blue", outcome="ok") for _ in range(8)]
        assert counts == [40] * 8, "whichever worker is asked"
        for slate in asked:  # most of them come to the worker that has not served the slate
            act = {"user_id": "u", "item_id": "i1", "kind": "click", "request_id": slate["request_id"]}
            told = httpx.post(f"http://127.0.0.1:{port}/feedback", json=act, timeout=60)
            assert told.status_code == 200
        assert counted(port, "recloop_reward_count", policy="old") == 40
        switch(engine, slots, "green")
        until(lambda: all(serves(port) == "new" for _ in range(10)))
        until(lambda: counted(port, "recloop_routing_version") == 2)
        victim = workers(gateway)[0]
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: victim not in workers(gateway) and len(workers(gateway)) == 2)
        assert {serves(port, f"v{n}") for n in range(20)} == {"new"}
        assert counted(port, "recloop_slot_requests_total", slot="blue", outcome="ok") >= 40
    finally:
        gateway.terminate()
        gateway.wait(60)
    with engine.connect() as connection:
        assert len(connection.execute(select(events.c.event_id)).all()) == 40


@pytest.mark.usefixtures("nothing_left")
def test_the_gates_see_all_workers_and_a_shadow_is_not_counted_among_people(tmp_path, engine, slots):
    port = free_port()
    opened = rollout.begin(engine, "new", "test", "try")
    rollout.start_shadow(engine, opened.id, "green", slots["green"], 1.0, "test", "go")
    gateway = gateway_process(tmp_path, port, workers=2)
    shadow = shadow_name(f"rollout-{opened.id}")

    def rows():
        with engine.connect() as connection:
            return connection.execute(select(gateways.c.counts)).scalars().all()

    try:
        until(lambda: gather(engine, shadow).alive == 2)
        asked = 0
        while asked < 40 or not all(shadow in row for row in rows()):  # the system chooses who serves
            assert asked < 1000
            for _ in range(10):  # fewer than would be dropped where the shadow is the slower one
                serves(port, f"u{asked}")
                asked += 1
            until(lambda: gather(engine, shadow).counts.get("ok") == asked)  # noqa: B023
        assert len(rows()) == 2
        assert counted(port, "recloop_slot_requests_total", policy="old") == asked
        assert counted(port, "recloop_slot_requests_total", policy="new") == 0
    finally:
        gateway.terminate()
        gateway.wait(60)
    found = gather(engine, shadow)
    assert (found.alive, found.silent) == (0, ())
    assert found.counts["ok"] == asked, "stopped in order, with its counts"


def workers(gateway):
    """The processes that serve, without multiprocessing's own helper."""
    found = []
    for one in psutil.Process(gateway.pid).children():
        with suppress(psutil.NoSuchProcess):  # a zombie has no command line either
            if one.status() != psutil.STATUS_ZOMBIE and "spawn_main" in " ".join(one.cmdline()):
                found.append(one)
    return found

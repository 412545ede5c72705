"""Faults under load: 50 requests a second at a gateway process, two slots as processes, a real canary gate.

Whatever one slot does, nobody's request fails; a challenger that does it is rolled back by itself.
"""

import subprocess
import sys
import threading
import time

import httpx
import psutil
import pytest
from sqlalchemy import select

from recloop.delivery import Routing, Target, Verdict, read_routing, rollout
from recloop.delivery.controller import Controller, Hands
from recloop.delivery.lease import take
from recloop.delivery.processes import free_port
from recloop.delivery.release import ask_gate
from recloop.delivery.routing import write_routing
from recloop.schema import Item, now_us
from recloop.settings import load_params
from recloop.store import add_items, open_store
from recloop.store.tables import events, impressions, quarantine
from tests.delivery.live import PARAMS, gateway_process, until
from tests.delivery.load import Load
from tests.delivery.standin import Standin

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("nothing_left")]
PLAN = load_params(PARAMS)
STEPS = PLAN.delivery.model_copy(
    update={
        "canary_steps": (0.3,),
        "canary_share": 0.5,
        "step_requests": 150,
        "bake_seconds": 0.0,
        "shadow_requests": 0,
    }
)


class World:
    """A gateway process over a store, and two slots that can be told to misbehave."""

    def __init__(self, home, blue, green):
        self.home, self.slots, self.port = home, (blue, green), free_port()
        self.engine = open_store(f"sqlite:///{home}/store.db")
        add_items(self.engine, [Item(item_id=f"i{n}", title="t") for n in range(20)])
        rollout.install(self.engine, "blue", Target(blue.url, "old"), "test", "first")
        self.url = f"http://127.0.0.1:{self.port}"

    def release(self):
        """Roll the challenger out by its gates; the rollout as it ended."""
        hands = Hands(
            judge=lambda: Verdict("offline", "pass", ""),
            start=lambda: Target(self.slots[1].url, "new"),
            smoke=lambda _: Verdict("smoke", "pass", ""),
            ask=self._ask,
            plan=dict,
            ready=lambda _: Verdict("ready", "pass", ""),
        )
        opened = rollout.begin(self.engine, "new", "test", "try")
        with take(self.engine, "controller", patience=0) as lease:
            Controller(self.engine, lease, hands, STEPS, "green", "controller", lambda _: None).drive(
                opened.id
            )
        return rollout.find(self.engine, opened.id)

    def _ask(self, opened):
        return ask_gate(PLAN.model_copy(update={"delivery": STEPS}), self.engine, opened)

    def canary_by_hand(self, share=0.5):
        opened = rollout.begin(self.engine, "new", "test", "try")
        target = Target(self.slots[1].url, "new")
        rollout.start_canary(self.engine, opened.id, "green", target, share, "test", "go")
        until(lambda: self.challenger() == "green")

    def challenger(self):
        return httpx.get(f"{self.url}/status", timeout=60).json()["routing"]["challenger"]

    def logged(self):
        query = select(impressions.c.request_id).where(impressions.c.position == 0)
        with self.engine.connect() as connection:
            return connection.execute(query).scalars().all()


@pytest.fixture(autouse=True)
def _limits(monkeypatch):
    """Longer than a busy machine stalls, and short enough to see a slot or a store that hangs."""
    monkeypatch.setattr("recloop.delivery.gateway.SLOT_SECONDS", 6.0)
    monkeypatch.setattr("recloop.delivery.gateway.COMMIT_SECONDS", 6.0)


@pytest.fixture
def world(tmp_path):
    with Standin("old") as blue, Standin("new") as green:
        world = World(tmp_path, blue, green)
        gateway = gateway_process(tmp_path, world.port)
        try:
            yield world
        finally:
            gateway.terminate()
            gateway.wait(60)


def sound(load, world):
    """Nobody's request failed, no slate came from no slot, and the log has each answer once."""
    assert load.failed == []
    assert load.fallbacks == []
    assert sorted(world.logged()) == sorted(one.request_id for one in load.answers)


FAULTS = (
    "hang",
    "flood",
    "drip",
    "endless",
    "html",
    "others",
    "nan",
    "twice",
    "unknown",
    "error",
    "some:20",
    "dead",
)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_challenger_that_misbehaves_is_rolled_back_and_nobody_s_request_fails(world, fault, capsys):
    with Load(world.url) as load:
        until(lambda: len(load.answers) > 50)
        world.slots[1].behave(fault if fault != "dead" else "ok")
        ended = []
        controller = threading.Thread(target=lambda: ended.append(world.release()))
        controller.start()
        until(lambda: any(told.target == "canary" for told in rollout.transitions_of(world.engine)))
        begun = time.monotonic()
        if fault == "dead":
            until(lambda: load.since(begun)["new"] > 20)
            world.slots[1].kill()
            begun = time.monotonic()
        controller.join(200)
        assert ended, "rolled back"
        took = time.monotonic() - begun
        until(lambda: world.challenger() is None)
        after = time.monotonic()
        until(lambda: len(load.answers) > 0 and load.answers[-1].at > after + 0.5)
    why = rollout.transitions_of(world.engine, ended[0].id)[0].why
    assert ended[0].state == "refused", why
    assert "got no valid answer" in why
    sound(load, world)
    assert set(load.since(after)) == {"old"}
    with capsys.disabled():
        print(f"\n{fault}: rolled back after {took:.1f} s; {load.told()}")


def test_a_challenger_that_is_three_times_slower_is_rolled_back(world, capsys):
    world.slots[0].behave("slow:0.2")
    world.slots[1].behave("slow:0.6")
    with Load(world.url) as load:
        begun = time.monotonic()
        ended = world.release()
        took = time.monotonic() - begun
    assert ended.state == "refused"
    assert "500 ms are allowed" in rollout.transitions_of(world.engine, ended.id)[0].why
    sound(load, world)
    with capsys.disabled():
        print(f"\n3 times slower: rolled back after {took:.1f} s; {load.told()}")


def test_the_champion_is_killed_amid_a_canary_and_comes_back(world, capsys):
    world.canary_by_hand()
    with Load(world.url) as load:
        until(lambda: load.since(0)["old"] > 30 and load.since(0)["new"] > 30)
        world.slots[0].kill()
        killed = time.monotonic()
        until(lambda: load.since(killed + 0.2)["new"] > 100)
        assert set(load.since(killed + 0.2)) == {"new"}, "the other slot serves everybody"
        world.slots[0].__enter__()
        took = until(lambda: load.since(killed + 0.2)["old"] > 0)
        back = time.monotonic()
        until(lambda: load.since(back)["old"] > 30)
    sound(load, world)
    with capsys.disabled():
        print(f"\nchampion killed; it serves again {took:.1f} s after its start; {load.told()}")


def test_both_are_killed_and_people_get_what_is_popular_marked_as_such(world, capsys):
    world.canary_by_hand()
    with Load(world.url) as load:
        until(lambda: load.since(0)["new"] > 30)
        for slot in world.slots:
            slot.kill()
        killed = time.monotonic()
        until(lambda: load.since(killed + 0.2)["fallback"] > 100)
        assert set(load.since(killed + 0.2)) == {"fallback"}
        for slot in world.slots:
            slot.__enter__()
        took = until(lambda: load.since(killed + 0.2)["old"] > 0 and load.since(killed + 0.2)["new"] > 0)
        back = time.monotonic()
        until(lambda: sum(load.since(back).values()) > 50)
        assert not load.since(back + 0.2)["fallback"]
    assert load.failed == []
    assert sorted(world.logged()) == sorted(one.request_id for one in load.answers)
    with capsys.disabled():
        print(f"\nboth killed; both serve again {took:.1f} s after their start; {load.told()}")


HOLD = """
import sqlite3, sys, time
lock = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
lock.execute("begin immediate")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
lock.execute("rollback")
"""
STALL = 60.0  # seconds


def test_the_store_stalls_for_a_minute(world, capsys):
    acknowledged, told, stop = [], set(), threading.Event()

    def send():
        with httpx.Client(base_url=world.url, timeout=100) as client:
            for n in range(10_000):
                act = {"event_id": f"e{n}", "user_id": "u", "item_id": "i1", "kind": "click"}
                answer = client.post("/events", json=[act])
                told.add((answer.status_code, answer.headers.get("retry-after")))
                if answer.status_code == 200:
                    acknowledged.append(act["event_id"])
                if stop.wait(0.05):
                    return

    sender = threading.Thread(target=send)
    with Load(world.url, rate=20) as load:
        sender.start()
        until(lambda: len(load.answers) > 40)
        gateway = psutil.Process(next(c.pid for c in psutil.net_connections("tcp") if _is(c, world.port)))
        before = gateway.memory_info().rss
        program = [sys.executable, "-c", HOLD, str(world.home / "store.db"), str(STALL)]
        with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as holder:
            holder.stdout.readline()
            held = time.monotonic()
            holder.wait()
        released = time.monotonic()
        grown = gateway.memory_info().rss - before
        recovered = until(lambda: any(one.status == 200 and one.at > released for one in load.answers))
        well = time.monotonic()
        until(lambda: load.answers[-1].at > well + 2)
    stop.set()
    sender.join(100)
    during = [one for one in load.answers if held + 1 < one.at < released - STALL / 3]
    assert len(during) > 500
    assert {(one.status, one.later) for one in during} <= {(503, "1"), (429, "1")}
    assert max(one.seconds for one in during) < STALL / 2, "nobody waits for its end"
    assert told <= {(200, None), (503, "1"), (429, "1")}
    assert [one for one in load.answers if one.at > well and one.status != 200] == []
    served = [one.request_id for one in load.answers if one.status == 200]
    assert sorted(world.logged()) == sorted(served), "what nobody was shown is not in the log"
    with world.engine.connect() as connection:
        kept = connection.execute(select(events.c.event_id)).scalars().all()
    assert set(acknowledged) <= set(kept)
    with capsys.disabled():
        print(
            f"\nstalled for {STALL:.0f} s: {len(during)} were told to come back; recovered after"
            f" {recovered:.1f} s; {len(acknowledged)} acknowledged events kept; {grown / 2**20:+.0f} MiB"
        )


def _is(connection, port):
    return connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN


def test_the_wall_clock_is_set_back_two_hours(tmp_path, capsys):
    clock, hours = tmp_path / "clock", 7_200_000_000_000
    clock.write_text("0")
    with Standin("old") as blue, Standin("new") as green:
        world = World(tmp_path, blue, green)
        gateway = gateway_process(tmp_path, world.port, clock=clock)
        try:
            with Load(world.url) as load:
                until(lambda: len(load.answers) > 100)
                clock.write_text(str(-hours))
                until(lambda: len(load.answers) > 200)
                with world.engine.begin() as connection:
                    slots = {"blue": Target(blue.url, "old"), "green": Target(green.url, "new")}
                    wanted = Routing(slots, "green")
                    write_routing(connection, read_routing(world.engine)[0], wanted, "test", "switch")
                switched = time.monotonic()
                until(lambda: load.since(switched)["new"] > 50)
                act = {"user_id": "u", "item_id": "i1", "kind": "click", "event_id": "here"}
                assert httpx.post(f"{world.url}/feedback", json=act, timeout=60).status_code == 200
                later = act | {"event_id": "there", "ts": now_us()}
                ahead = httpx.post(f"{world.url}/feedback", json=later, timeout=60)
        finally:
            gateway.terminate()
            gateway.wait(60)
    sound(load, world)
    assert (ahead.status_code, ahead.json()["field"]) == (422, "ts"), "by this clock it has not happened yet"
    with world.engine.connect() as connection:
        assert connection.execute(select(quarantine.c.reason)).scalars().all() != [], "and it is kept aside"
        stamps = connection.execute(select(impressions.c.ts).order_by(impressions.c.seq)).scalars().all()
    assert min(stamps) < max(stamps) - hours // 2000, "the clock was set back, the order of the log was not"
    with capsys.disabled():
        print(f"\nclock set back: {load.told()}")

"""The gates see what all gateways have counted, and know whom they have not heard of."""

import asyncio
import json
import os
import signal
import threading

import httpx
import pytest
from sqlalchemy import BigInteger, literal, select

from recloop.delivery import Target, presence, read_routing, rollout
from recloop.delivery.exchange import IN_A_ROW, REST_SECONDS
from recloop.delivery.presence import GONE, KEPT, LATE, Presence, gather
from recloop.delivery.processes import free_port
from recloop.delivery.release import ask_gate
from recloop.delivery.tally import Tally, slot_figures, step_name
from recloop.schema import Item
from recloop.settings import load_params
from recloop.store import add_items, open_store
from recloop.store.tables import gateways, rollouts
from tests.delivery.live import PARAMS, Live, gateway_process, until
from tests.delivery.standin import Standin
from tests.delivery.test_gates import REWARD, RULES, begun, browse

STEP = step_name("rollout-1", RULES.canary_share)
WELL = {"ok": 500.0, "seconds 0.01": 500.0}
ALL = load_params(PARAMS).model_copy(update={"delivery": RULES, "reward": REWARD})


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    return engine


def heard(engine, name, seconds_ago=0.0, ended=False, **counts):
    with engine.begin() as connection:
        beat = presence._now(connection) - int(seconds_ago * 1e6)
        row = {"id": name, "name": name, "started": 1, "beat": beat, "ended": ended}
        connection.execute(gateways.insert().values(row | {"counts": json.dumps({STEP: counts})}))


@pytest.fixture
def still(monkeypatch):
    """The store's clock stands still, so that what was heard of a while ago does not grow older."""
    monkeypatch.setattr(presence, "_now", lambda _: literal(1_700_000_000_000_000, BigInteger))


def passing(engine):
    """A rollout whose people and rewards are well, so that the gateways' counts decide."""
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    return opened


@pytest.mark.usefixtures("still")
def test_counts_of_all_are_added_whether_they_live_or_not(engine):
    heard(engine, "a", 0, ok=10, failed=1)
    heard(engine, "b", 1, ok=20, failed=2)
    heard(engine, "ended", 9, True, ok=40)
    heard(engine, "dead", GONE + 1, ok=80, failed=4)
    found = gather(engine, STEP)
    assert found.counts == {"ok": 150, "failed": 7}
    assert (found.alive, found.silent, found.lacking) == (2, (), None)
    assert gather(engine, step_name("rollout-2", RULES.canary_share)).counts == {}


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize(
    ("others", "outcome", "word"),
    [
        ([("b", 0)], "pass", ""),
        ([("b", LATE + 1)], "no-data", "gateway b has not been heard of for 5 s"),
        ([("b", GONE - 1), ("c", LATE + 1)], "no-data", "gateway b, c has not"),
        ([("b", GONE + 1)], "pass", ""),
    ],
)
def test_a_gateway_that_may_serve_unheard_keeps_the_gate_from_passing(engine, others, outcome, word):
    opened = passing(engine)
    heard(engine, "a", **WELL)
    for name, seconds_ago in others:
        heard(engine, name, seconds_ago)
    verdict = ask_gate(ALL, engine, opened)
    assert (verdict.outcome, word in verdict.why) == (outcome, True), verdict.why
    assert verdict.figures["gateways"] == 1 + (others == [("b", 0)])


@pytest.mark.usefixtures("still")
def test_the_only_gateway_that_died_lets_nothing_pass(engine):
    opened = passing(engine)
    heard(engine, "a", GONE + 1, **WELL)
    verdict = ask_gate(ALL, engine, opened)
    assert (verdict.outcome, "no gateway is alive" in verdict.why) == ("no-data", True)


@pytest.mark.usefixtures("still")
def test_harm_that_some_have_seen_is_harm_whoever_is_silent(engine):
    opened = passing(engine)
    heard(engine, "a", **WELL)
    heard(engine, "b", LATE + 1, failed=20)
    verdict = ask_gate(ALL, engine, opened)
    assert (verdict.outcome, verdict.figures["failed"]) == ("fail", 20)
    assert "gateway b has not been heard of" in verdict.why


def test_a_gateway_writes_its_counts_once_however_often_it_writes(engine, monkeypatch):
    monkeypatch.setattr(presence, "EVERY", 0.01)
    tally = Tally()
    opened = begun(engine)
    routing = read_routing(engine)[1]

    async def serve():
        async with Presence(engine, tally):
            assert gather(engine, STEP).alive == 1, "known before it serves"
            for _ in range(7):
                tally.attempt(routing, "green", "ok", 0.004)
                await asyncio.sleep(0.03)
            assert gather(engine, STEP).alive == 1
        return gather(engine, STEP)

    for number in (1, 2):  # and once more as another process, which adds its own
        tally = Tally()
        found = asyncio.run(serve())
        assert (slot_figures(found.counts).asked, found.alive, opened.id) == (7 * number, 0, 1)


def test_a_store_that_cannot_be_written_stops_no_gateway(engine, monkeypatch):
    monkeypatch.setattr(presence, "EVERY", 0.01)

    async def serve():
        async with Presence(engine, Tally()):
            with engine.begin() as connection:
                gateways.drop(connection)
            await asyncio.sleep(0.05)
            with engine.begin() as connection:
                gateways.create(connection)
            async with asyncio.timeout(100):  # it is heard of again
                while not gather(engine, STEP).alive:
                    await asyncio.sleep(0.01)

    asyncio.run(serve())


def test_rows_of_the_long_dead_are_kept_as_long_as_a_rollout_needs_them(engine):
    heard(engine, "old", 3 * KEPT / 1e6)
    heard(engine, "newer", 1.5 * KEPT / 1e6)
    heard(engine, "newest", 0.5 * KEPT / 1e6)
    opened = begun(engine)

    def names():
        presence_of_one = Presence(engine, Tally())
        presence_of_one._write({}, True)
        with engine.connect() as connection:
            query = select(gateways.c.id).where(gateways.c.id != presence_of_one._id)
            return set(connection.execute(query).scalars()) & {"old", "newer", "newest"}

    with engine.begin() as connection:
        connection.execute(rollouts.update().values(ts=rollouts.c.ts - KEPT))
    assert names() == {"newer", "newest"}, "the open rollout began a day ago"
    rollout.abort(engine, opened.id, "test", "over")
    assert names() == {"newest"}


@pytest.fixture(scope="module")
def slots():
    with Standin("old") as blue, Standin("new") as green:
        yield blue, green


def canary_of(engine, slots):
    opened = rollout.begin(engine, "new", "test", "try")
    target = Target(slots[1].url, "new")
    rollout.start_canary(engine, opened.id, "green", target, RULES.canary_share, "test", "go", (0.9,))
    return rollout.find(engine, opened.id)


def test_failures_at_the_second_gateway_refuse_and_another_try_begins_at_0(
    tmp_path, slots, clock, monkeypatch
):
    monkeypatch.setattr(presence, "LATE", 100.0)
    for slot in slots:
        slot.behave("ok")
    one, two = Live(tmp_path), Live(tmp_path)
    rollout.install(one.engine, "blue", Target(slots[0].url, "old"), "test", "first")
    opened = canary_of(one.engine, slots)
    with one, two:
        for gateway in (one, two):
            gateway.settled(read_routing(one.engine)[0])
        for n in range(40):
            one.ask(f"u{n}", k=1)
        slots[1].behave("error")
        for n in range(40):
            two.ask(f"u{n}", k=1)
        slots[1].behave("ok")
        failed = 'recloop_slot_requests_total{outcome="status",policy="new",slot="green"} '
        assert f"{failed}{IN_A_ROW}.0" in two.client.get("/metrics").text, "then it rests"
        until(lambda: ask_gate(ALL, one.engine, opened).figures["failed"] == IN_A_ROW)
        verdict = ask_gate(ALL, one.engine, opened)
        assert (verdict.outcome, "got no valid answer" in verdict.why) == ("fail", True)
        assert verdict.figures["gateways"] == 2
        clock[0] += REST_SECONDS
        assert 'outcome="status"' not in one.client.get("/metrics").text, "the first one has seen no failure"
        rollout.refuse(one.engine, opened.id, "test", verdict.told)
        opened = canary_of(one.engine, slots)
        for gateway in (one, two):
            gateway.settled(read_routing(one.engine)[0])
        assert ask_gate(ALL, one.engine, opened).figures["asked"] == 0
        until(lambda: two.ask("u1") and ask_gate(ALL, one.engine, opened).figures["asked"])
        verdict = ask_gate(ALL, one.engine, opened)
        assert (verdict.outcome, verdict.figures["failed"]) == ("no-data", 0), verdict.why
        rollout.grow(one.engine, opened.id, 1, "test", "well")
        figures = ask_gate(ALL, one.engine, opened).figures
        assert (figures["step"], figures["asked"]) == (2, 0), "and so does each step"


@pytest.mark.slow
@pytest.mark.usefixtures("nothing_left")
def test_a_gateway_that_hangs_is_told_and_one_that_died_is_not_waited_for(tmp_path, slots, monkeypatch):
    for slot in slots:
        slot.behave("ok")
    engine, ports = open_store(f"sqlite:///{tmp_path}/store.db"), [free_port(), free_port()]
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(20)])
    rollout.install(engine, "blue", Target(slots[0].url, "old"), "test", "first")
    opened = canary_of(engine, slots)
    processes = [gateway_process(tmp_path, port) for port in ports]
    try:
        answers = [
            httpx.post(f"http://127.0.0.1:{port}/recommend", json={"user_id": f"u{n}"}).json()
            for port in ports
            for n in range(20)
        ]
        asked = sum(answer["policy"] == "new" for answer in answers)
        until(lambda: gather(engine, step_name("rollout-1", RULES.canary_share)).counts.get("ok", 0) == asked)
        os.kill(processes[1].pid, signal.SIGSTOP)
        until(lambda: f":{processes[1].pid} has not been heard of" in ask_gate(ALL, engine, opened).why)
        done = threading.Event()
        threading.Thread(target=lambda: (ask_gate(ALL, engine, opened), done.set()), daemon=True).start()
        assert done.wait(100), "the gate does not wait for it"
        processes[1].kill()
        processes[1].wait()
        monkeypatch.setattr(presence, "GONE", LATE + 1)
        until(lambda: "heard of" not in ask_gate(ALL, engine, opened).why)
        verdict = ask_gate(ALL, engine, opened)
        assert (verdict.figures["gateways"], verdict.figures["asked"]) == (1, asked), "its counts stay"
    finally:
        for process in processes:
            process.terminate()
            process.wait(60)

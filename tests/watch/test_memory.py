"""A look that reads only what is new finds what a look that reads everything does."""

import random

import numpy as np
import pytest
from sqlalchemy import delete

from recloop.delivery.outcomes import outcomes
from recloop.schema import Arrival, EventKind, Impression
from recloop.settings import load_params
from recloop.store import append, open_store
from recloop.store.tables import impressions
from recloop.watch import memory as module
from recloop.watch.figures import gauges
from recloop.watch.memory import Memory, Running
from tests.delivery.live import PARAMS
from tests.watch.test_figures import browse, trained

ALL = load_params(PARAMS)
REWARD = ALL.reward
NOW = 500_000 * 3_600_000_000


@pytest.fixture
def engine(store_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return open_store(store_url)


def shown(request, seq=None, **more):
    luck = random.Random(request)
    row = {"user_id": f"u{luck.randrange(9)}", "policy": f"p{luck.randrange(2)}"} | more
    return [
        Impression(request_id=f"r{request}", position=n, item_id=f"i{n}", propensity=0.5, ts=1, **row)
        for n in range(2)
    ]


def act(number, luck, request):
    kind = luck.choice(["click", "purchase", "dismiss", "rating", "view"])
    traffic = luck.choice([None, None, None, "bot"])
    return Arrival(
        event_id=f"e{number}", user_id="u", item_id=f"i{luck.randrange(3)}", kind=EventKind(kind),
        ts=1, received=1, value=luck.choice([1.0, 5.0]), request_id=f"r{request}", traffic=traffic,
    )  # fmt: skip


def pairs(clusters):
    return sorted(zip(clusters.counts.tolist(), np.round(clusters.totals, 9).tolist(), strict=True))


def whole(engine, since, until=None):
    found = [one.people for one in outcomes(engine, REWARD, since, until).values()]
    return sorted(pair for people in found for pair in pairs(people))


@pytest.mark.parametrize("seed", range(4))
def test_acts_and_impressions_may_come_in_any_order(engine, monkeypatch, seed):
    monkeypatch.setattr(module, "HELD", 6)
    luck, number = random.Random(seed), 0
    spans = {(5, None): Running(REWARD, 5, None), (5, 40): Running(REWARD, 5, 40)}
    for turn in range(12):
        for _ in range(luck.randrange(6)):
            more = luck.choice([{}, {}, {}, {"partial": True}, {"traffic": "internal"}])
            append(engine, shown(number, **more))
            number += 1
        # of requests long ago, of new ones, and of those that come later
        acts = [act(f"{turn}-{n}", luck, luck.randrange(number + 4)) for n in range(luck.randrange(8))]
        append(engine, [], acts)
        for (since, until), running in spans.items():
            for _ in range(luck.randrange(1, 3)):
                assert pairs(running.people(engine)) == whole(engine, since, until)
    assert number > 10
    assert whole(engine, 5), "somebody was there"


def test_an_older_number_that_becomes_visible_later_is_counted(engine, monkeypatch):
    monkeypatch.setattr(module, "HELD", 6)
    append(engine, [row for n in range(10) for row in shown(n)])
    with engine.begin() as connection:  # as a transaction that is open still
        late = connection.execute(
            delete(impressions).where(impressions.c.seq == 17).returning(impressions)
        ).one()
    running = Running(REWARD, 0, None)
    before = running.people(engine)
    with engine.begin() as connection:
        connection.execute(impressions.insert().values(late._asdict()))
    assert running.people(engine).counts.sum() == before.counts.sum() + 1
    assert pairs(running.people(engine)) == whole(engine, 0)


def test_a_later_look_reads_what_is_new(engine, monkeypatch):
    monkeypatch.setattr(module, "HELD", 6)
    acts = [act(n, random.Random(n), n) for n in range(300)]
    append(engine, [row for n in range(300) for row in shown(n)], acts)
    running = Running(REWARD, 0, None)
    first = pairs(running.people(engine))
    assert (running._shown, running._acts) == (594, 294)
    assert pairs(running.people(engine)) == first
    append(engine, shown(300))
    assert pairs(running.people(engine)) == whole(engine, 0)
    assert (running._shown, running._acts) == (596, 294)


def test_figures_with_a_memory_are_those_without(engine):
    memory = Memory()
    browse(engine, "x", 150, 0.5)
    trained(engine)
    for label in ("a", "b"):
        browse(engine, label, 100, 0.3)
        assert gauges(engine, ALL, NOW, memory)["recloop_reward_change_low"] == pytest.approx(
            gauges(engine, ALL, NOW)["recloop_reward_change_low"]
        )
    trained(engine)
    browse(engine, "c", 100, 0.3)
    with_it, without = gauges(engine, ALL, NOW, memory), gauges(engine, ALL, NOW)
    assert with_it["recloop_requests_since_training"] == {(): 300.0}, "since the new training"
    assert with_it["recloop_drift_distance"] == without["recloop_drift_distance"], "and from its people"


def test_what_was_added_up_is_read_anew_once_an_hour(engine, monkeypatch):
    memory = Memory()
    append(engine, [row for n in range(20) for row in shown(n)])
    monkeypatch.setattr(module, "HELD", 0)
    kept = memory.people("since", engine, REWARD, 0, None).counts.sum()
    with engine.begin() as connection:  # erased
        connection.execute(delete(impressions).where(impressions.c.seq <= 10))
    assert memory.people("since", engine, REWARD, 0, None).counts.sum() == kept
    monkeypatch.setattr(module, "ANEW", -1.0)
    assert pairs(memory.people("since", engine, REWARD, 0, None)) == whole(engine, 0)

"""The gateway is killed again and again while people act: what it acknowledged is there, and once.

RECLOOP_KILL_EVENTS=1000000 takes so many events instead of ``EVENTS``.
"""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from sqlalchemy import func, select

from recloop.delivery.processes import free_port
from recloop.schema import now_us
from recloop.store.tables import events, quarantine
from tests.delivery.live import Live, gateway_process, until

EVENTS, KILLS, BATCH, CLIENTS = 60_000, 20, 100, 6


class Crowd:
    """Clients who each send a batch until it is acknowledged, whatever becomes of the gateway meanwhile."""

    def __init__(self, url, total):
        self.url, self.batches = url, iter(range(total // BATCH))
        self.acknowledged, self.accepted, self.again = set(), 0, 0
        self.turn, self.over = threading.Lock(), threading.Event()

    def work(self):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            while not self.over.is_set():
                with self.turn:
                    number = next(self.batches, None)
                if number is None:
                    return
                self.deliver(client, number)

    def deliver(self, client, number):
        rows = [act(n) for n in range(number * BATCH, (number + 1) * BATCH)]
        while not self.over.is_set():
            try:
                answer = client.post("/events", json=rows)
            except httpx.TransportError:
                with self.turn:
                    self.again += 1
                self.over.wait(0.05)
                continue
            assert answer.status_code in (200, 429, 503), answer.text
            if answer.status_code == 200:
                said = answer.json()
                assert said["accepted"] + said["repeated"] == BATCH
                with self.turn:
                    self.acknowledged.add(number)
                    self.accepted += said["accepted"]
                return
            self.over.wait(0.1)


BEGAN = now_us()


def act(number):
    return {
        "event_id": f"e{number}",
        "user_id": f"u{number % 997}",
        "item_id": f"i{number % 20}",
        "kind": "click",
        "value": float(number),
        "ts": BEGAN - number,
    }


def on_disk(engine):
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(events)).scalar_one()


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_twenty_kills_lose_nothing_and_double_nothing(tmp_path):
    total = int(os.environ.get("RECLOOP_KILL_EVENTS", EVENTS))
    live, port, luck = Live(tmp_path), free_port(), random.Random(4)
    crowd = Crowd(f"http://127.0.0.1:{port}", total)
    gateway = gateway_process(tmp_path, port)
    with ThreadPoolExecutor(CLIENTS) as pool:
        work = [pool.submit(crowd.work) for _ in range(CLIENTS)]
        try:
            for kill in range(KILLS):
                mark = (kill + luck.random()) / (KILLS + 1) * total / BATCH
                until(lambda mark=mark: len(crowd.acknowledged) > mark, 600)
                gateway.kill()
                gateway.wait()
                told = len(crowd.acknowledged) * BATCH
                assert on_disk(live.engine) >= told, f"kill {kill}: acknowledged events are gone"
                gateway = gateway_process(tmp_path, port)
            for one in work:
                one.result(3600)
        finally:
            crowd.over.set()
            gateway.kill()
            gateway.wait()
    assert crowd.again >= KILLS, "no kill met a request under way"
    with live.engine.connect() as connection:
        rows = {row.event_id: row for row in connection.execute(select(events))}
        assert on_disk(live.engine) == len(rows) == total
        assert connection.execute(select(func.count()).select_from(quarantine)).scalar_one() == 0
    for number in range(total):
        said, row = act(number), rows[f"e{number}"]
        assert {name: getattr(row, name) for name in said} == said
    print(f"{total} events, {crowd.accepted} told to be new, {crowd.again} requests cut by {KILLS} kills")

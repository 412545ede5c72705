"""A flood: who gets in is answered, the others are told to come back, and memory stays bounded."""

import asyncio
import socket
import threading
import time
from collections import Counter

import aiohttp
import psutil
import pytest

from recloop.delivery import Target, rollout
from recloop.delivery.gateway import MOST
from recloop.delivery.processes import free_port
from recloop.schema import Item
from recloop.store import add_items, open_store
from tests.delivery.live import gateway_process
from tests.delivery.standin import Standin

MANY = 2000
MIB = 1 << 20


@pytest.fixture
def served(tmp_path):
    """URL and process of a gateway whose slots need half a second."""
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(20)])
    with Standin("old") as slot:
        slot.behave("slow:0.5")
        rollout.install(engine, "blue", Target(slot.url, "old"), "test", "first")
        port = free_port()
        process = gateway_process(tmp_path, port)
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
        process.terminate()
        process.wait(60)


class Peak:
    """The most memory (RSS, bytes) that a process had while this was open."""

    def __init__(self, process):
        self.process, self.most, self._stop = process, process.memory_info().rss, threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _look(self):
        while not self._stop.wait(0.02):
            self.most = max(self.most, self.process.memory_info().rss)


async def flood(url, path, bodies):
    """Status and Retry-After of each, all sent at once."""
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector) as session:

        async def one(body):
            async with session.post(path, json=body, timeout=aiohttp.ClientTimeout(200)) as answer:
                slate = await answer.json()
                return answer.status, answer.headers.get("retry-after"), slate.get("fallback")

        return await asyncio.gather(*map(one, bodies))


@pytest.mark.slow
def test_two_thousand_at_once_at_a_slow_slot(served, capsys):
    url, process = served
    asyncio.run(flood(url, "/recommend", [{"user_id": "first"}]))
    with Peak(process) as peak:
        before = peak.most
        answers = asyncio.run(flood(url, "/recommend", [{"user_id": f"u{n}"} for n in range(MANY)]))
    counts = Counter(status for status, _, _ in answers)
    assert set(counts) == {200, 429}
    assert counts[200] >= MOST["/recommend"], "who gets in is answered"
    assert not any(fallback for status, _, fallback in answers if status == 200)
    assert {later for status, later, _ in answers if status == 429} == {"1"}
    assert peak.most - before < 150 * MIB
    after = asyncio.run(flood(url, "/recommend", [{"user_id": f"u{n}"} for n in range(50)]))
    assert {status for status, _, _ in after} == {200}, "nothing is left behind"
    with capsys.disabled():
        print(f"\n{dict(counts)}, memory {before / MIB:.0f} MiB, at most {peak.most / MIB:.0f} MiB")


@pytest.mark.slow
def test_a_flood_of_batches_is_bounded_too(served, capsys):
    url, process = served
    batch = [{"user_id": "u", "item_id": "i1", "kind": "click"}] * 5000
    with Peak(process) as peak:
        before = peak.most
        answers = asyncio.run(flood(url, "/events", [batch] * 60))
    counts = Counter(status for status, _, _ in answers)
    assert counts[200] >= 1
    assert set(counts) <= {200, 429, 503}
    assert peak.most - before < 500 * MIB
    with capsys.disabled():
        print(f"\n{dict(counts)}, memory {before / MIB:.0f} MiB, at most {peak.most / MIB:.0f} MiB")


@pytest.mark.slow
def test_who_sends_too_slowly_loses_the_place(served):
    url, _ = served
    lines = ["POST /recommend HTTP/1.1", "host: x", "content-type: application/json", "content-length: 100"]
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=200) as client:
        begun = time.monotonic()
        client.sendall("\r\n".join([*lines, "", "{"]).encode())
        answer = client.recv(4096).decode()
    assert answer.startswith("HTTP/1.1 408")
    assert time.monotonic() - begun > 5

"""The master key is exchanged twice while 500 requests a second are served; none fails."""

import asyncio
import subprocess
import sys
import time
from collections import Counter

import aiohttp
import pytest

from recloop.delivery.processes import free_port
from recloop.schema import Item
from recloop.settings import places
from recloop.store import add_items, open_store
from recloop.store.personal import open_personal, seal_personal
from recloop.store.vault import open_vault
from tests.delivery.live import TOKEN, gateway_process

pytestmark = pytest.mark.slow
PERSONS, RATE, MOST_SECONDS = 4000, 500, 250
AT_ONCE = 100  # a machine that is too slow for the rate asks for fewer, which the report says
COMMAND = [sys.executable, "-c", "from recloop.cli import app; app()"]
HEADERS = {"authorization": f"Bearer {TOKEN}"}


@pytest.mark.usefixtures("nothing_left")
def test_the_master_key_rotates_under_load_without_a_failure(tmp_path, monkeypatch, record_property):
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path))
    where = places()
    engine, vault = open_store(where.store), open_vault(where)
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(20)])
    for n in range(PERSONS):
        vault.make_key(f"u{n}")
    for n in range(50):
        seal_personal(engine, vault, f"u{n}", {"email": f"u{n}@example.com"})
    port = free_port()
    gateway = gateway_process(tmp_path, port)
    try:
        statuses, seconds, rotated = asyncio.run(load_while_rotating(port))
    finally:
        gateway.terminate()
        gateway.wait(60)
    said = f"{sum(statuses.values())} requests in {seconds:.1f} s, {dict(statuses)}; rotations took {rotated}"
    record_property("said", said)
    print(said)
    assert set(statuses) == {("/recommend", 200), ("/person/export", 200), ("/person/data", 200)}, said
    assert open_vault(where).held() == {"v3": PERSONS + 50}
    for version in ("v1", "v2"):
        subprocess.run([*COMMAND, "key", "retire", version], check=True, capture_output=True)
    assert open_personal(engine, open_vault(where), "u7") == {"email": "u7@example.com"}
    assert open_personal(engine, open_vault(where), "new0")["email"].startswith("new0@")


async def load_while_rotating(port):
    """Eighteen slates, then an export and a datum to be sealed; statuses by route."""
    statuses, waiting, number, rotated = Counter(), set(), 0, []
    url = f"http://127.0.0.1:{port}"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=HEADERS) as session:

        async def ask(path, body):
            async with session.post(url + path, json=body) as answer:
                await answer.read()
                statuses[path, answer.status] += 1

        async def rotate():
            for _ in range(2):
                begun = time.monotonic()
                quiet = asyncio.subprocess.DEVNULL
                command = [*COMMAND, "key", "rotate"]
                process = await asyncio.create_subprocess_exec(*command, stdout=quiet, stderr=quiet)
                assert await process.wait() == 0
                rotated.append(round(time.monotonic() - begun, 1))

        begun, rotation = time.monotonic(), asyncio.create_task(rotate())
        while not rotation.done() or time.monotonic() - begun < 5:
            assert time.monotonic() - begun < MOST_SECONDS
            kind, person = number % 20, f"u{number % 50}"
            if kind == 18:
                task = ask("/person/export", {"user_id": person})
            elif kind == 19:
                new = f"new{number // 20 % 50}"
                task = ask("/person/data", {"user_id": new, "fields": {"email": f"{new}@{number}"}})
            else:
                task = ask("/recommend", {"user_id": f"u{number % PERSONS}"})
            one = asyncio.create_task(task)
            waiting.add(one)
            one.add_done_callback(waiting.discard)
            number += 1
            await asyncio.sleep(max(0.0, begun + number / RATE - time.monotonic()))
            while len(waiting) >= AT_ONCE:
                await asyncio.sleep(0.005)
        rotation.result()
        await asyncio.gather(*waiting)
        return statuses, time.monotonic() - begun, rotated


def test_a_rotation_of_nothing_makes_a_key_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path))
    done = subprocess.run([*COMMAND, "key", "rotate"], capture_output=True, text=True, check=True)
    assert "0 persons' keys are under v2 now" in done.stdout

"""A gateway that listens on a free port, in a thread of the test or as a process of its own."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import uvicorn

from recloop.delivery import gateway
from recloop.schema import Item
from recloop.settings import load_params, places
from recloop.store import add_items, open_store
from recloop.web.app import create

PARAMS = Path(__file__).parents[2] / "params.yaml"
TOKEN = "operator-token-of-a-test"
LIMITS = ("SLOT_SECONDS", "COMMIT_SECONDS")  # of the gateway


class Live:
    """Store, gateway in a thread, and a client; use as a context manager."""

    def __init__(self, home: Path, items: int = 20) -> None:
        self.params = load_params(PARAMS)
        self.places = places(home=home, token=TOKEN, store_url="")
        self.engine = open_store(self.places.store)
        add_items(self.engine, [Item(item_id=f"i{n}", title=f"Title <b>{n}</b>") for n in range(items)])

    def __enter__(self):
        app = create(self.places, self.params)
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=2)
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        until(lambda: self.server.started)
        self.url = f"http://127.0.0.1:{self.server.servers[0].sockets[0].getsockname()[1]}"
        self.client = httpx.Client(base_url=self.url, timeout=60)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.server.should_exit = True
        self.thread.join(60)
        self.engine.dispose()

    def ask(self, user: str = "u", **body) -> httpx.Response:
        return self.client.post("/recommend", json={"user_id": user, **body})

    def settled(self, version: int) -> None:
        """Wait until the gateway follows this version of the routing."""
        until(lambda: self.client.get("/status").json()["routing_version"] >= version)


def until(condition, seconds: float = 100.0) -> float:
    """Wait until it holds; the seconds that it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, "it did not come to hold"
        time.sleep(0.02)
    return time.monotonic() - begun


def gateway_process(home: Path, port: int, workers: int = 1, clock: Path | None = None) -> subprocess.Popen:
    """``tests/delivery/process.py`` over ``home``, ready, as ``hurried`` as the test."""
    env = os.environ | {"RECLOOP_HOME": str(home), "RECLOOP_TOKEN": TOKEN, "RECLOOP_STORE_URL": ""}
    env |= {"CLOCK": str(clock or "")} | {name: str(getattr(gateway, name)) for name in LIMITS}
    command = [sys.executable, Path(__file__).with_name("process.py"), "--port", str(port)]
    command += ["--params", str(PARAMS), "--workers", str(workers)]
    process = subprocess.Popen(command, env=env)

    def ready():
        assert process.poll() is None, "the gateway ended"
        try:
            return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=60).status_code == 200
        except httpx.TransportError:
            return False

    until(ready)
    return process

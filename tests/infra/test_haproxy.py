"""HAProxy before two real gateways: one is killed under load, and nobody notices."""

import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy import func, select

from recloop.delivery.processes import free_port
from recloop.schema import Item
from recloop.store import add_items, open_store
from recloop.store.tables import impressions
from tests.delivery.live import gateway_process, until

CONFIG = Path(__file__).parents[2] / "infra" / "haproxy" / "haproxy.cfg"
HAPROXY = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
pytestmark = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed: apt-get install haproxy")


def test_the_configuration_is_sound_and_a_mistake_is_seen(tmp_path):
    assert checked(CONFIG).returncode == 0
    wrong = tmp_path / "wrong.cfg"
    wrong.write_text(CONFIG.read_text().replace("retry-on conn-failure", "retry-on connfailure"))
    assert "connfailure" in checked(wrong).stderr


def checked(file):
    return subprocess.run([HAPROXY, "-c", "-f", file], capture_output=True, text=True, check=False)


@contextmanager
def balanced(ports):
    edge = free_port()
    env = os.environ | {
        "RECLOOP_BIND": f"127.0.0.1:{edge}",
        "RECLOOP_GATEWAY_ONE": f"127.0.0.1:{ports[0]}",
        "RECLOOP_GATEWAY_TWO": f"127.0.0.1:{ports[1]}",
    }
    process = subprocess.Popen([HAPROXY, "-db", "-f", CONFIG], env=env, stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{edge}"
    finally:
        process.terminate()
        process.wait(60)


class Load:
    """People who ask for slates, one after another on four connections, until it is told to end."""

    def __init__(self, url):
        self.statuses, self._over, self.url = [], threading.Event(), url
        self.threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(4)]

    def _ask(self, number):
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for count in range(1_000_000):
                if self._over.is_set():
                    return
                try:
                    answer = client.post("/recommend", json={"user_id": f"u{number}.{count}"})
                    self.statuses.append(answer.status_code)
                except httpx.HTTPError as error:
                    self.statuses.append(type(error).__name__)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self.threads:
            thread.join()

    def more(self, count):
        """Wait for so many more answers."""
        wanted = len(self.statuses) + count
        until(lambda: len(self.statuses) >= wanted)


@pytest.mark.slow
def test_a_gateway_that_is_killed_under_load_fails_no_request(tmp_path, nothing_left):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    add_items(engine, [Item(item_id=f"i{n}", title=f"t{n}") for n in range(20)])
    ports = free_port(), free_port()
    gateways = [gateway_process(tmp_path, port) for port in ports]
    try:
        with balanced(ports) as url:
            until(lambda: reached(url) == 200)
            with Load(url) as load:
                until(lambda: asked(ports[0]) and asked(ports[1]))
                load.more(300)
                gateways[0].kill()
                gateways[0].wait()
                load.more(300)
                gateways[0] = gateway_process(tmp_path, ports[0])
                until(lambda: asked(ports[0]))
                load.more(300)
                gateways[1].kill()
                gateways[1].wait()
                load.more(300)
        assert set(load.statuses) == {200}
        with engine.connect() as connection:
            logged = connection.execute(select(func.count(impressions.c.request_id.distinct()))).scalar()
        assert logged >= len(load.statuses)
        assert reached(f"http://127.0.0.1:{ports[0]}") == 200
    finally:
        for gateway in gateways:
            gateway.kill()
            gateway.wait()
        engine.dispose()


def asked(port):
    """Whether the gateway has given a slate since it was started."""
    return 'route="/recommend"' in httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text


def reached(url):
    try:
        return httpx.get(f"{url}/healthz", timeout=60).status_code
    except httpx.TransportError:
        return 0

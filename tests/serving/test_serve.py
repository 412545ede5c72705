"""A Bento as ``bentoml serve`` runs it, over HTTP."""

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import Engine

from recloop.delivery.processes import free_port
from recloop.schema import Slate
from recloop.serving.build import Built, bento_home, serve_command
from recloop.serving.openapi import DOCUMENT
from recloop.store import history

pytestmark = pytest.mark.slow


def start(built: Built, home: Path, slot_home: Path, **extra: str) -> tuple[subprocess.Popen, str]:
    port = free_port()
    argv, environment = serve_command(built.tag, home, slot_home, "127.0.0.1", port)
    with (slot_home / "log").open("wb") as log:
        process = subprocess.Popen(
            argv, env=environment | extra, stdout=log, stderr=log, start_new_session=True
        )
    return process, f"http://127.0.0.1:{port}"


def wait_ready(process: subprocess.Popen, url: str) -> bool:
    """Whether it becomes ready before it ends."""
    while process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=60).status_code == 200:
                return True
        except httpx.TransportError:
            time.sleep(0.05)
    return False


def end(process: subprocess.Popen) -> None:
    if process.poll() is None:
        family = psutil.Process(process.pid).children(recursive=True)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(100)
        psutil.wait_procs(family, 100)
        assert not [one for one in family if one.is_running()]


def counts(metrics: str) -> dict[tuple[str, str], float]:
    """Requests by path and status; each must be in the histogram too."""
    total: dict[tuple[str, str], float] = {}
    timed: dict[tuple[str, str], float] = {}
    rows = {"request_total": total, "request_duration_seconds_count": timed}
    for family in text_string_to_metric_families(metrics):
        for one in family.samples:
            name = one.name.removeprefix("recloop_slot_")
            if name in rows:
                key = one.labels["endpoint"], one.labels["http_response_code"]
                assert key not in rows[name], f"two series are one: {one}"
                rows[name][key] = one.value
            elif name == "request_in_progress":
                assert one.value == 0, one
    assert total == timed
    return total


@pytest.fixture
def served(built: Built, home: Path, tmp_path: Path, url: str, engine: Engine) -> Iterator[str]:
    process, address = start(built, home, tmp_path / "blue", RECLOOP_STORE_URL=url, RECLOOP_TOKEN="s3cret")
    try:
        assert wait_ready(process, address), (tmp_path / "blue/log").read_text()
        yield address
    finally:
        end(process)


def test_a_served_bento(served: str, engine: Engine, built: Built, tmp_path: Path) -> None:
    with httpx.Client(base_url=served, timeout=60) as client:
        answer = client.post("/recommend", json={"user_id": "known", "k": 5}, headers={"X-Request-Id": "r1"})
        slate = Slate.model_validate_json(answer.content)
        assert (slate.request_id, slate.policy, slate.cold_start) == ("r1", built.policy, True)
        act = {"user_id": "known", "item_id": "i1", "kind": "click", "request_id": "r1"}
        assert client.post("/feedback", json=act).status_code == 401
        told = client.post("/feedback", json=act, headers={"Authorization": "Bearer s3cret"})
        assert told.json()["accepted"] == 1
        assert history(engine, "known", 5, 4.0) == ["i1"]
        assert not client.post("/recommend", json={"user_id": "known"}).json()["cold_start"]
        for body in ("", "{", '{"user_id": "p", "k": NaN}', '{"user_id": "p", "x": 1}', " " * 70_000):
            refused = client.post("/recommend", content=body)
            assert refused.status_code in (400, 413, 422)
            assert refused.json()["field"]
        assert client.get("/policy").json()["name"] == built.policy
        assert client.get("/openapi.json").json() == DOCUMENT
        assert client.get("/docs.json").json() == DOCUMENT
        page = client.get("/").text
        assert "google" not in page
        for link in re.findall(r'(?:href|src)="([^"]*)"', page):
            assert client.get(link.removeprefix(".")).status_code == 200, link
        for path in DOCUMENT["paths"]:
            told = client.get(path, headers={"Authorization": "Bearer s3cret"})
            assert told.status_code in (200, 405), path
        exposed = client.get("/metrics").text
        counted = counts(exposed)
    assert counted["/recommend", "200"] == 2
    assert f'recloop_slot_policy_info{{policy="{built.policy}"}} 1.0' in exposed
    assert 'recloop_slot_people_total{history="none"} 1.0' in exposed
    assert 'recloop_slot_people_total{history="known"} 1.0' in exposed
    assert "recloop_slot_ranking_seconds_count 2.0" in exposed
    assert 'recloop_slot_refused_total{reason="too_long"} 1.0' in exposed
    assert counted["/recommend", "405"] == 1
    assert sum(n for (path, status), n in counted.items() if (path, status[0]) == ("/recommend", "4")) == 6
    assert counted["/feedback", "200"] == 1
    assert "Traceback" not in (tmp_path / "blue/log").read_text()


def test_an_altered_policy_is_not_served(built: Built, home: Path, tmp_path: Path) -> None:
    here = bento_home(tmp_path / "var") / "bentos"
    shutil.copytree(bento_home(home) / "bentos", here)
    (here / built.tag.replace(":", "/") / "src/models/policy/items.json").write_text("{}")
    process, address = start(built, tmp_path / "var", tmp_path / "blue")
    try:
        assert not wait_ready(process, address)
        assert process.returncode != 0
        assert "items.json was altered" in (tmp_path / "blue/log").read_text()
    finally:
        end(process)

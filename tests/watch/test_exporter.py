"""The exporter answers from its last look, and says how old that is."""

import os
import subprocess
import sys
import time

import httpx
import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.exc import OperationalError

from recloop.delivery.processes import free_port
from recloop.schema import Impression, now_us
from recloop.settings import load_params
from recloop.store import append, open_store
from recloop.watch.exporter import Figures
from recloop.watch.figures import GAUGES
from recloop.watch.notes import exporters, note_run
from tests.delivery.live import PARAMS, until

ALL = load_params(PARAMS)
BEGUN = now_us()


def scraped(figures):
    registry = CollectorRegistry()
    registry.register(figures)
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    shown = [
        Impression(
            request_id=f"r{n}",
            position=0,
            user_id=f"u{n}",
            item_id="a",
            propensity=0.5,
            policy=p,
            ts=now_us(),
        )
        for n, p in enumerate(("old", "old", "new"))
    ]
    append(engine, shown)
    note_run(engine, "retrain", True, 12.0, BEGUN - 60_000_000)
    return engine


def test_it_shows_the_figures_by_their_names_and_labels(engine):
    figures = Figures(engine, ALL)
    figures.refresh()
    found = scraped(figures)
    assert {key[0] for key in found} <= set(GAUGES) | {
        "recloop_figures_age_seconds",
        "recloop_figures_seconds",
    }
    assert found["recloop_policy_requests", ("policy", "old")] == 2
    assert found["recloop_policy_requests", ("policy", "new")] == 1
    assert 60 <= found[("recloop_training_age_seconds",)] <= 60 + (now_us() - BEGUN) / 1e6
    assert found["recloop_flow_seconds", ("flow", "retrain")] == 12


def test_a_store_that_cannot_be_read_leaves_old_figures_that_grow_older(engine, monkeypatch):
    figures = Figures(engine, ALL)
    figures.refresh()
    before = scraped(figures)
    time.sleep(0.05)

    def away(*_, **__):
        raise OperationalError("", {}, Exception("away"))

    monkeypatch.setattr("recloop.watch.exporter.gauges", away)
    figures.refresh()
    after = scraped(figures)
    age = ("recloop_figures_age_seconds",)
    assert after.pop(age) > before.pop(age)
    assert after == before


@pytest.mark.slow
def test_the_command_listens(engine, tmp_path, nothing_left):
    (tmp_path / "params.yaml").write_text(PARAMS.read_text())
    port = free_port()
    command = [
        sys.executable,
        "-c",
        "from recloop.cli import app; app()",
        "watch",
        "exporter",
        "--port",
        str(port),
    ]
    process = subprocess.Popen(command, env=os.environ | {"RECLOOP_STORE_URL": str(engine.url)})

    def text():
        try:
            return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=60).text
        except httpx.TransportError:
            return ""

    try:
        until(lambda: 'recloop_policy_requests{policy="old"} 2.0' in text())
        until(lambda: exporters(engine))
        assert [name.rpartition(":")[2] for name in exporters(engine)] == [str(port)]
    finally:
        process.terminate()
        process.wait(60)
    assert exporters(engine) == {}, "it has ended, and is not down"

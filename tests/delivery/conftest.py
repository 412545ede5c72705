"""What tests of a running gateway share."""

from time import perf_counter
from types import SimpleNamespace

import pytest

from recloop.delivery import Target, exchange, rollout
from tests.delivery.live import Live
from tests.delivery.standin import Standin


@pytest.fixture(scope="module")
def slots():
    """Two that do as they are told, blue and green."""
    with Standin("old") as blue, Standin("new") as green:
        yield blue, green


@pytest.fixture
def clock(monkeypatch):
    """A list of the one number of seconds by which slots rest: it moves by hand."""
    seconds = [0.0]
    by_hand = SimpleNamespace(monotonic=lambda: seconds[0], perf_counter=perf_counter)
    monkeypatch.setattr(exchange, "time", by_hand)
    return seconds


@pytest.fixture
def live(tmp_path, slots):
    """A gateway before well-behaved slots, of which blue serves."""
    for slot in slots:
        slot.behave("ok")
    live = Live(tmp_path)
    rollout.install(live.engine, "blue", Target(slots[0].url, "old"), "test", "first")
    with live:
        yield live

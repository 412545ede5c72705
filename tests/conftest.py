"""Every test has a home of its own, leaves nothing running in it, and does not mind a machine that stalls."""

import itertools
import os
import sys

import psutil
import pytest
from hypothesis import HealthCheck, settings

from tests.postgres import Absent, Cluster

os.environ["RECLOOP_CONSENT"] = "assumed"  # nobody real is there; tests of consent say otherwise
STALL = 30.0  # seconds for which a busy machine may stand still
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_collection_finish():
    """Gateways give slots and store more time than a stall takes; tests of being late ask for ``hurried``."""
    if gateway := sys.modules.get("recloop.delivery.gateway"):
        gateway.SLOT_SECONDS = gateway.COMMIT_SECONDS = STALL


@pytest.fixture
def hurried(monkeypatch):
    """Gateways that are started from here on give up soon, as they do in production."""
    monkeypatch.setattr("recloop.delivery.gateway.SLOT_SECONDS", 4.0)
    monkeypatch.setattr("recloop.delivery.gateway.COMMIT_SECONDS", 4.0)


@pytest.fixture(autouse=True)
def _home_of_its_own(tmp_path, monkeypatch):
    for name in ("RECLOOP_STORE_URL", "RECLOOP_TOKEN", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RECLOOP_HOME", str(tmp_path / "home"))


@pytest.fixture
def nothing_left():
    """Fails where the test leaves a child running."""
    before = set(psutil.Process().children(recursive=True))
    yield
    left = [p for p in psutil.Process().children(recursive=True) if p not in before and p.is_running()]
    left = [p for p in left if p.status() != psutil.STATUS_ZOMBIE]
    for process in left:
        process.kill()
    assert not left


@pytest.fixture(scope="session")
def postgres():
    """A server with a database for each test that asks; skips where there is none."""
    try:
        cluster = Cluster()
    except Absent as error:
        pytest.skip(str(error))
    yield cluster
    cluster.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def new_store(request, tmp_path):
    """Gives the URL of an empty store, another one at each call; the test runs on both engines."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgres").new
    numbers = itertools.count()
    return lambda: f"sqlite:///{tmp_path}/s{next(numbers)}.db"


@pytest.fixture
def store_url(new_store):
    """The URL of an empty store, on both engines."""
    return new_store()

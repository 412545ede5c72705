"""Every test has a home of its own, and leaves nothing running in it."""

import psutil
import pytest


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

"""A store that cannot be opened, read or written, and rows that nobody should have written."""

from pathlib import Path

import pytest
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from recloop.policy import load
from recloop.schema import User
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.store import StoreError, add_users
from tests.serving.conftest import open_app

ACT = {"user_id": "known", "item_id": "i1", "kind": "click"}


@pytest.mark.parametrize(
    "url",
    ["sqlite:////proc/no/store.db", "nonsense", "no_such_database://host/db", "postgresql://u:hush@127.0.0.1:1/x"],
)  # fmt: skip
def test_a_store_that_cannot_be_opened(folder: Path, url: str) -> None:
    slot = TestClient(open_app(Recommender(load(folder), Past(url))))
    answer = slot.post("/recommend", json={"user_id": "known"})
    assert (answer.status_code, answer.json()["cold_start"]) == (200, True)
    refused = slot.post("/feedback", json=ACT)
    assert refused.status_code == 503
    assert refused.json()["error"]
    assert "hush" not in refused.text


def test_a_store_that_comes_back_is_used(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "store.db"
    file.write_bytes(b"this is not a database at all, whatever its name says" * 20)
    past = Past(f"sqlite:///{file}")
    past.retry_seconds = 3600.0
    slot = TestClient(open_app(Recommender(load(folder), past)))
    refused = slot.post("/feedback", json=ACT)
    assert refused.status_code == 503
    assert "not a database" in refused.json()["error"]
    file.unlink()
    assert slot.post("/feedback", json=ACT).status_code == 503  # it is left alone for a while
    past._again = 0
    assert slot.post("/feedback", json=ACT).status_code == 200
    assert not slot.post("/recommend", json={"user_id": "known"}).json()["cold_start"]


def test_a_table_that_is_gone(slot: TestClient, engine: Engine) -> None:
    assert slot.post("/feedback", json=ACT).status_code == 200
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE events"))
    answer = slot.post("/recommend", json={"user_id": "known"})
    assert (answer.status_code, answer.json()["cold_start"]) == (200, True)
    assert slot.post("/feedback", json=ACT).status_code == 503


def test_a_profile_that_no_user_can_have(
    slot: TestClient, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE users SET age = 500"))
    answer = slot.post("/recommend", json={"user_id": "known"})
    assert (answer.status_code, answer.json()["cold_start"]) == (200, True)
    assert "a profile cannot be used: age (less_than_equal)" in caplog.text
    assert "known" not in caplog.text
    assert "500" not in caplog.text


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_profile_beyond_all_measure(slot: TestClient, engine: Engine) -> None:
    add_users(engine, [User(user_id="known", attributes={"height": 1e300})])
    assert slot.post("/feedback", json=ACT).status_code == 200
    answer = slot.post("/recommend", json={"user_id": "known"})
    assert (answer.status_code, answer.json()["cold_start"]) == (200, False)


def test_the_log_says_once_that_the_store_is_away(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    past = Past("")
    for _ in range(3):
        assert past.of("known", 3, 4.0) == (None, [], "away")
    assert len(caplog.records) == 1
    with pytest.raises(StoreError, match="set RECLOOP_STORE_URL"):
        past.store()

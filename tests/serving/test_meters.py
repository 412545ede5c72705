"""What a slot counts of what it does: whose history was known, what was refused, how long ranking took."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import Engine, text
from starlette.testclient import TestClient

from recloop.policy import load
from recloop.schema import User
from recloop.serving.meters import Meters
from recloop.serving.past import Known, Past
from recloop.serving.recommender import Recommender
from recloop.store import add_users
from tests.serving.conftest import open_app


@pytest.fixture
def counted(recommender: Recommender) -> CollectorRegistry:
    registry = CollectorRegistry()
    recommender.meters = Meters(recommender.policy.manifest.name, registry)
    return registry


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(f"recloop_slot_{name}", labels) or 0.0


def test_people_are_told_apart_by_what_is_known_of_them(
    recommender: Recommender, slot: TestClient, counted: CollectorRegistry, engine: Engine
) -> None:
    def asked(told: str | None = None, **by: int) -> None:
        answer = slot.post("/recommend", json={"user_id": "known"})
        assert (answer.status_code, answer.headers.get("X-Recloop-History")) == (200, told)
        for history in ("known", "none", "away", "unfit"):
            assert value(counted, "people_total", history=history) == by.get(history, 0), history

    asked(none=1)
    slot.post("/feedback", json={"user_id": "known", "item_id": "i1", "kind": "click"})
    asked(none=1, known=1)
    with engine.begin() as connection:
        connection.execute(text("update users set age = 500"))
    asked("unfit", none=1, known=1, unfit=1)
    with engine.begin() as connection:
        connection.execute(text("update users set age = 50"))
        connection.execute(text("alter table events rename to gone"))
    asked("away", none=1, known=1, unfit=1, away=1)
    with engine.begin() as connection:
        connection.execute(text("alter table gone rename to events"))
    asked(none=1, known=2, unfit=1, away=1)
    assert value(counted, "ranking_seconds_count") == 5
    assert 0 < value(counted, "ranking_seconds_sum") < 60


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "unreadable"),
        ('{"user_id": "p", "k": 0}', "invalid"),
        (" " * 70_000, "too_long"),
        ('{"user_id": "p", "exclude": ["i0", "i1", "i3", "i4", "i5"]}', "nothing_left"),
    ],
)
def test_what_is_refused_is_counted_by_its_reason(
    slot: TestClient, counted: CollectorRegistry, body: str, reason: str
) -> None:
    assert slot.post("/recommend", content=body).status_code in (400, 413, 422)
    assert value(counted, "refused_total", reason=reason) == 1
    assert sum(value(counted, "people_total", history=h) for h in ("known", "none", "away", "unfit")) == 0


def test_the_policy_that_is_loaded_is_named(recommender: Recommender, counted: CollectorRegistry) -> None:
    assert value(counted, "policy_info", policy=recommender.policy.manifest.name) == 1


def test_a_slot_without_a_store_is_blind(folder: Path) -> None:
    registry = CollectorRegistry()
    blind = Recommender(load(folder), Past(""))
    blind.meters = Meters("p", registry)
    TestClient(open_app(blind)).post("/recommend", json={"user_id": "known"})
    assert value(registry, "people_total", history="away") == 1


def test_two_who_ask_at_once_are_each_counted_by_what_is_known_of_them(
    folder: Path, engine: Engine, url: str
) -> None:
    both = threading.Barrier(2)

    class Met(Past):
        def of(self, user_id: str, limit: int, rating_positive: float) -> Known:
            found = super().of(user_id, limit, rating_positive)
            both.wait(60)
            return found

    add_users(engine, [User(user_id="odd", age=30)])
    with engine.begin() as connection:
        connection.execute(text("update users set age = 500 where user_id = 'odd'"))
    registry, recommender = CollectorRegistry(), Recommender(load(folder), Met(url))
    recommender.meters = Meters("p", registry)
    recommender.past.store()
    with ThreadPoolExecutor(2) as threads:
        for _ in range(5):
            answers = threads.map(lambda who: recommender.recommend("r", who), ("known", "odd"))
            assert [history for _, history in answers] == ["none", "unfit"]
    assert [value(registry, "people_total", history=h) for h in ("none", "unfit")] == [5, 5]

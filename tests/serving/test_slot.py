"""The slot's answers: what it shows, to whom, and that feedback changes it."""

from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, select
from starlette.testclient import TestClient

from recloop.policy import load
from recloop.schema import Slate
from recloop.serving.app import create_app
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens
from recloop.settings.tokens import READ, SCOPES
from recloop.store import set_consents
from recloop.store.tables import events
from tests.serving.conftest import SPEC, open_app


def ask(slot: TestClient, **body: object) -> Slate:
    answer = slot.post("/recommend", json={"user_id": "known", **body})
    assert answer.status_code == 200, answer.text
    return Slate.model_validate_json(answer.content)


def scores(slate: Slate) -> dict[str, float]:
    return dict(zip(slate.items, slate.scores, strict=True))


def test_a_slate_has_what_the_contract_says(slot: TestClient, recommender: Recommender) -> None:
    slate = ask(slot)
    assert len(slate.items) == len(set(slate.items)) == 3  # the manifest's slate
    assert slate.titles == [f"Item {item[1:]}" for item in slate.items]
    assert slate.policy == recommender.policy.manifest.name
    assert slate.fallback is False
    assert len(slate.request_id) == 32


def test_propensities_are_those_of_the_policy(slot: TestClient, folder: Path) -> None:
    ts = 1_700_000_000_000_000
    slate = ask(slot, user_id="stranger", context={"device": "phone", "ts": ts}, k=4)
    policy = load(folder)
    drawn = np.array([[SPEC.index[item] for item in slate.items]])
    observation = SPEC.observation(None, [], "phone", ts)
    np.testing.assert_allclose(slate.propensities, policy.sampler.propensities(observation, drawn)[0])
    np.testing.assert_allclose(slate.scores, policy.scores(observation)[0, drawn[0]])


def test_the_request_keeps_its_name(slot: TestClient) -> None:
    answer = slot.post("/recommend", json={"user_id": "known"}, headers={"X-Request-Id": "r-17"})
    assert answer.json()["request_id"] == "r-17"
    for wrong in ("r 17", ""):
        refused = slot.post("/recommend", json={"user_id": "known"}, headers={"X-Request-Id": wrong})
        assert refused.status_code == 422
        assert refused.json()["field"] == "X-Request-Id"


def test_a_request_without_a_name_gets_the_one_that_is_in_the_log(slot: TestClient) -> None:
    answers = [slot.post("/recommend", json={"user_id": "known"}) for _ in range(2)]
    ids = [answer.headers["X-Request-Id"] for answer in answers]
    assert [answer.json()["request_id"] for answer in answers] == ids
    assert len(set(ids)) == 2


def test_a_click_changes_the_next_answer(slot: TestClient) -> None:
    before = ask(slot, k=5)
    assert before.cold_start
    act = {"user_id": "known", "item_id": "i1", "kind": "click", "request_id": before.request_id}
    answer = slot.post("/feedback", json=act)
    assert answer.status_code == 200
    assert answer.json()["accepted"] == 1
    after = ask(slot, k=5)
    assert not after.cold_start
    assert scores(after)["i1"] - scores(before)["i1"] == pytest.approx(10)
    assert scores(after)["i3"] == pytest.approx(scores(before)["i3"])
    assert ask(slot, user_id="stranger").cold_start


def test_the_profile_counts(slot: TestClient) -> None:
    """Height 190 is two standard deviations above the mean; each is worth n/100 to item n."""
    known, stranger = ask(slot, k=5), ask(slot, user_id="stranger", k=5)
    assert scores(known)["i5"] == pytest.approx(0.5 + 0.10)
    assert scores(stranger)["i5"] == pytest.approx(0.5 + 0.05)  # the column "not known"
    assert scores(known)["i0"] == 0


def test_what_is_sold_out_or_excluded_is_never_shown(slot: TestClient) -> None:
    for _ in range(50):
        slate = ask(slot, k=100, exclude=["i0", "unheard-of"])
        assert sorted(slate.items) == ["i1", "i3", "i4", "i5"]
    refused = slot.post("/recommend", json={"user_id": "known", "exclude": ["i0", "i1", "i3", "i4", "i5"]})
    assert refused.status_code == 422
    assert refused.json()["field"] == "exclude"


def test_feedback_is_on_disk_when_it_is_answered_and_once_only(slot: TestClient, engine: Engine) -> None:
    act = {"user_id": "known", "item_id": "i1", "kind": "rating", "value": 4.5, "event_id": "e1", "ts": 7}
    assert [slot.post("/feedback", json=act).json()["accepted"] for _ in range(2)] == [1, 0]
    with engine.connect() as connection:
        (row,) = connection.execute(select(events)).mappings().all()
    assert {key: row[key] for key in act} == act
    clash = slot.post("/feedback", json=act | {"value": 1.0})
    assert (clash.status_code, clash.json()["field"]) == (409, "event_id")
    assert "e1" in clash.json()["error"]
    timeless = {name: value for name, value in act.items() if name != "ts"} | {"event_id": "e2"}
    assert [slot.post("/feedback", json=timeless).json()["accepted"] for _ in range(2)] == [1, 0]


def test_feedback_needs_the_token_where_there_is_one(recommender: Recommender) -> None:
    slot = TestClient(create_app(recommender, Tokens({"s3cret": SCOPES}), frozenset({READ})))
    act = {"user_id": "known", "item_id": "i1", "kind": "click"}
    for headers in ({}, {"Authorization": "s3cret"}, {"Authorization": "Bearer s3cre"}):
        answer = slot.post("/feedback", json=act, headers=headers)
        assert (answer.status_code, answer.json()["field"]) == (401, "authorization")
    assert slot.post("/feedback", json=act, headers={"Authorization": "Bearer s3cret"}).status_code == 200
    assert slot.post("/recommend", json={"user_id": "known"}).status_code == 200


def test_the_manifest_is_shown(slot: TestClient, folder: Path) -> None:
    manifest = load(folder).manifest
    shown = slot.get("/policy").json()
    assert shown.pop("name") == manifest.name
    assert shown == manifest.model_dump()


def test_a_slot_without_a_store_serves_strangers(folder: Path) -> None:
    slot = TestClient(open_app(Recommender(load(folder), Past(""))))
    assert ask(slot).cold_start
    answer = slot.post("/feedback", json={"user_id": "known", "item_id": "i1", "kind": "click"})
    assert answer.status_code == 503
    assert "RECLOOP_STORE_URL" in answer.json()["error"]


def test_nothing_is_stored_of_who_does_not_agree(
    folder: Path, url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLOOP_CONSENT", "required")
    slot = TestClient(open_app(Recommender(load(folder), Past(url, {"service": 2}))))
    act = {"user_id": "known", "item_id": "i1", "kind": "click"}

    def send(name: str) -> int:
        answer = slot.post("/feedback", json=act | {"event_id": name})
        assert answer.status_code == 200
        assert answer.json()["event_id"] == name
        return answer.json()["accepted"]

    assert send("silent") == 0
    set_consents(engine, "known", {"service": True}, {"service": 1})
    assert send("older-terms") == 0
    set_consents(engine, "known", {"service": True}, {"service": 2})
    assert send("agreed") == 1
    set_consents(engine, "known", {"service": False}, {"service": 2})
    assert send("withdrawn") == 0
    with engine.connect() as connection:
        names = connection.execute(select(events.c.event_id)).scalars().all()
    assert [name for name in names if name in ("silent", "older-terms", "agreed", "withdrawn")] == ["agreed"]

"""The people since a training against those before it: one comparison, for alerts and the dashboard."""

from pathlib import Path

import pytest

from recloop.experiments.drift import counts_drift, mix_drift
from recloop.schema import Impression, Item, User
from recloop.settings import load_params
from recloop.store import add_items, add_users, append, open_store
from recloop.store.snapshot import watermark
from recloop.watch.figures import MARK, gauges
from recloop.watch.since import since_training
from recloop.web.dashboard.drift import drifts
from tests.delivery.live import PARAMS

HOUR = 3_600_000_000
NOW = 500_000 * HOUR
ITEMS = [Item(item_id=f"i{n}", title="t", category=f"c{n % 2}") for n in range(4)]


@pytest.fixture
def engine(store_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    engine = open_store(store_url)
    add_items(engine, ITEMS)
    return engine


def come(
    engine,
    who,
    people,
    visits=1,
    policy="p",
    device=lambda n, turn: "phone",
    item=lambda n: "i0",
    label="",
    **more,
):
    """Each person asks as often as that."""
    users = [User(user_id=f"{who}{n}", age=20 + n % 40, sex="F", region="Seoul") for n in range(people)]
    add_users(engine, users)
    append(
        engine,
        [
            Impression(
                request_id=f"{who}{label}-{n}-{turn}", position=0, user_id=f"{who}{n}", item_id=item(n),
                propensity=0.5, policy=policy, device=device(n, turn), ts=NOW - HOUR, **more,
            )
            for turn in range(visits)
            for n in range(people)
        ],
    )  # fmt: skip


def trained(engine):
    mark = watermark(engine)
    mark.save(MARK)
    return mark.impressions


def of(found, feature):
    (one,) = [one for one in found if one.drift.feature == feature]
    return one


def test_the_distances_are_those_of_the_people_of_either_side(engine):
    come(engine, "earlier", 200, device=lambda n, _: "tv")
    come(engine, "a", 300, device=lambda n, _: ("phone", "desktop")[n % 2], item=lambda n: f"i{n % 2}")
    mark = trained(engine)
    come(engine, "b", 300, device=lambda n, _: ("phone", "desktop")[n % 3 == 0], item=lambda n: f"i{n % 4}")
    found = since_training(engine, mark)
    assert {(one.kind, one.policy, one.reference) for one in found} == {
        ("inputs", "", "training"), ("actions", "p", "training"),
    }  # fmt: skip
    known = counts_drift(
        "device", {"phone": 150, "desktop": 150}, {"phone": 200, "desktop": 100}, chance=1e-6
    )
    assert of(found, "device").drift == known
    assert of(found, "category").drift == mix_drift(
        "category", {"c0": 150, "c1": 150}, {"c0": 150, "c1": 150}, chance=1e-6
    )
    assert of(found, "age").drift.distance == pytest.approx(0)
    assert of(found, "region").drift.distance == pytest.approx(0, abs=1e-5)


def test_who_comes_often_counts_once(engine):
    def either(n, turn):
        return ("phone", "desktop")[(n + turn) % 2]

    come(engine, "a", 300, visits=3, device=either)
    mark = trained(engine)
    come(engine, "b", 300, visits=3, device=either)
    device = of(since_training(engine, mark), "device")
    assert (device.drift.reference, device.drift.recent) == (300, 300)
    assert device.drift.distance == pytest.approx(0, abs=1e-9)


def test_a_longer_past_with_more_of_those_who_come_rarely_is_no_drift(engine):
    def week(label):
        """100 come every day with a phone, 400 once with a desktop computer."""
        for day in range(8):
            come(engine, "daily", 100, label=f"{label}{day}", device=lambda n, _: "phone")
            come(engine, f"rare{label}{day}", 50, device=lambda n, _: "desktop")

    for n in range(3):
        week(f"before{n}-")
    mark = trained(engine)
    week("since")
    device = of(since_training(engine, mark), "device")
    assert (device.drift.reference, device.drift.recent) == (500, 500)
    assert device.drift.distance == pytest.approx(0, abs=1e-9), "three weeks would have 100 and 1,200"


def test_bots_and_broken_slates_are_nobody(engine):
    come(engine, "a", 30)
    mark = trained(engine)
    come(engine, "bots", 30, traffic="bot")
    come(engine, "parts", 30, partial=True)
    assert since_training(engine, mark) == []
    come(engine, "b", 20)
    assert of(since_training(engine, mark), "device").drift.recent == 20


def test_a_promotion_is_no_drift_and_a_policy_that_shows_other_things_is(engine):
    come(engine, "a", 400, policy="old", item=lambda n: "i0")
    come(engine, "b", 400, policy="kept", item=lambda n: f"i{n % 2}")
    mark = trained(engine)
    come(engine, "c", 400, policy="new", item=lambda n: "i1")
    come(engine, "d", 400, policy="kept", item=lambda n: f"i{(n % 10 == 0) + 0}")
    found = [one for one in since_training(engine, mark) if one.kind == "actions"]
    assert [(one.policy, one.drift.drifted) for one in found] == [("kept", True)]


def test_the_dashboard_and_the_alerts_say_the_same(engine):
    come(engine, "a", 400, item=lambda n: f"i{n % 2}")
    mark = trained(engine)
    come(engine, "b", 300, item=lambda n: "i0")
    shown = {(one.drift.feature, one.policy): one.drift for one in drifts(engine, Path(MARK), "UTC")}
    told = gauges(engine, load_params(PARAMS), NOW)
    assert shown == {(one.drift.feature, one.policy): one.drift for one in since_training(engine, mark)}
    for labels, distance in told["recloop_drift_distance"].items():
        drift = shown[dict(labels)["feature"], dict(labels)["policy"]]
        assert (distance, told["recloop_drift_threshold"][labels]) == (drift.distance, drift.threshold)
    assert len(told["recloop_drift_distance"]) == len(shown) == 5

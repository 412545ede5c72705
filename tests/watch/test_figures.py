"""What a look finds in a store: each rule fires for its cause alone, by figures of known numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from recloop.delivery import Target, presence, rollout
from recloop.schema import Event, Impression, Item, User
from recloop.settings import load_params
from recloop.store import Refused, add_items, add_users, append, open_store
from recloop.store.snapshot import watermark
from recloop.store.tables import gateways, minutes, quarantine
from recloop.watch import check
from recloop.watch.calibration import miscalibration
from recloop.watch.figures import GAUGES, MARK, gauges
from recloop.watch.notes import expect, flow_runs, forget_exporter, may_ask, note_exporter, note_run
from recloop.watch.policies import policies
from recloop.watch.seen import FromStore, fold
from tests.delivery.live import PARAMS

HOUR = 3_600_000_000
MINUTE = HOUR // 60
NOW = 500_000 * HOUR
ALL = load_params(PARAMS)


@pytest.fixture
def engine(store_url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return open_store(store_url)


def trained(engine):
    watermark(engine).save(MARK)


def browse(engine, label, people, rate, policy="p", region="Seoul", start=NOW - HOUR, propensity=0.5):
    """Each person asks three times and clicks at the rate."""
    rng = np.random.default_rng(len(label) + people)
    add_users(
        engine, [User(user_id=f"{label}{n}", age=20 + n % 40, sex="F", region=region) for n in range(people)]
    )
    shown, acts = [], []
    for n in range(people):
        for turn in range(3):
            request = f"{label}-{n}-{turn}"
            shown.append(
                Impression(
                    request_id=request, position=0, user_id=f"{label}{n}", item_id="a", propensity=propensity,
                    policy=policy, ts=start,
                )
            )  # fmt: skip
            if rng.random() < rate:
                acts.append(
                    Event(
                        event_id=request, user_id=f"{label}{n}", item_id="a", kind="click",
                        request_id=request, ts=start + 1,
                    )
                )  # fmt: skip
    append(engine, shown, acts)


def names(engine, now=NOW):
    return {alert.name.partition(" ")[0] for alert in check(engine, ALL, now)}


def found(engine, now=NOW):
    return {alert.name for alert in check(engine, ALL, now)}


def test_all_is_well_when_nothing_has_changed(engine):
    assert names(engine) == set(), "an empty store"
    browse(engine, "x", 300, 0.4)
    trained(engine)
    assert names(engine) == set(), "nobody has come since training"
    browse(engine, "y", 300, 0.42)
    assert names(engine) == set()
    values = gauges(engine, ALL, NOW)
    assert values["recloop_requests_since_training"] == {(): 900.0}
    drifts = {dict(key)["feature"] for key in values["recloop_drift_distance"]}
    assert drifts == {"sex", "region", "device", "age"}
    assert set(values) == set(GAUGES) | {"up", "recloop_routing_stale_seconds"}


def test_rewards_and_people_are_compared_with_those_of_the_training(engine):
    browse(engine, "x", 300, 0.5)
    trained(engine)
    browse(engine, "loss", 300, 0.2)
    assert found(engine) == {"RewardLoss"}
    trained(engine)
    browse(engine, "busan", 300, 0.5, region="Busan")
    assert found(engine) == {"Drift feature=region kind=inputs reference=training"}


def test_rows_that_are_refused_and_feedback_that_stops(engine):
    browse(engine, "x", 300, 0.5)
    append(engine, refused=[Refused("http", "event", "no", {})] * 25)
    with engine.begin() as connection:
        connection.execute(quarantine.update().values(ts=NOW))
    assert gauges(engine, ALL, NOW)["recloop_quarantined_ratio"][()] == pytest.approx(25 / 475, rel=0.1)
    assert names(engine) == {"Quarantined"}
    assert names(engine, NOW + 30 * HOUR) == {"FeedbackQuiet"}


def minute(engine, ts, gateway="g", **counts):
    """A row of a gateway; a name may bear labels: ``slots|outcome=ok``."""
    rows = {}
    for name, x in counts.items():
        series, *labels = name.split("|")
        rows[f"recloop_{series} {json.dumps(sorted(label.split('=') for label in labels))}"] = x
    with engine.begin() as connection:
        connection.execute(minutes.insert().values(ts=ts, gateway=gateway, counts=json.dumps(rows)))


OK = "slot_requests_total|slot=blue|policy=p|outcome=ok"
BAD = "slot_requests_total|slot=blue|policy=p|outcome=timeout"
SOME = "gateway_requests_total|route=/recommend|status=503"
COUNT, FAST = "gateway_seconds_count|route=/recommend", "gateway_seconds_bucket|route=/recommend|le=0.5"


@pytest.mark.parametrize(
    ("counts", "alerts"),
    [
        ({OK: 1000, "fallbacks_total": 5}, set()),
        ({OK: 1000, "fallbacks_total": 8}, {"AvailabilitySlowBurn"}),
        ({OK: 1000, "fallbacks_total": 20}, {"Fallbacks", "AvailabilitySlowBurn"}),
        ({OK: 100, "fallbacks_total": 20}, {"Fallbacks", "AvailabilityBurn", "AvailabilitySlowBurn"}),
        ({OK: 1000, SOME: 100}, {"AvailabilityBurn", "AvailabilitySlowBurn"}),
        ({OK: 1000, BAD: 30}, {"SlotFails"}),
        ({OK: 1000, BAD: 10}, set()),
        ({COUNT: 1000, FAST: 800}, {"LatencyBurn", "LatencySlowBurn"}),
        ({COUNT: 1000, FAST: 980}, {"LatencySlowBurn"}),
        ({COUNT: 1000, FAST: 991}, set()),
        ({OK: 4, "fallbacks_total": 1}, {"Fallbacks"}),
    ],
)
def test_gateways_counts_burn_the_budget_or_not(engine, counts, alerts):
    half = {name: x / 2 for name, x in counts.items()}
    for gateway in ("one", "two"):  # of several workers
        minute(engine, NOW - MINUTE, gateway, **half)
    assert names(engine) == alerts


@pytest.mark.parametrize(("minutes_ago", "fires"), [(1, True), (20, True), (31, False), (50, False)])
def test_a_burn_that_is_over_is_no_burn(engine, minutes_ago, fires):
    for ago in range(minutes_ago, minutes_ago + 3):
        minute(engine, NOW - ago * MINUTE, **{OK: 500, "fallbacks_total": 100})
    for ago in range(1, 59):
        minute(engine, NOW - ago * MINUTE + 1, "well", **{OK: 30})
    seen = {a.name for a in check(engine, ALL, NOW) if a.severity == "critical" and a.layer == "objective"}
    assert seen == ({"AvailabilityBurn"} if fires else set())


def test_minutes_are_folded_into_hours_without_loss(engine):
    for ago in range(0, 80 * 60, 7):
        minute(engine, NOW - ago * MINUTE, **{OK: 1, "fallbacks_total": 2})
    windows = [300, 1800, 3600, 21600]
    before = [FromStore(engine, {}, NOW).increases("recloop_fallbacks_total", x) for x in windows]
    long = FromStore(engine, {}, NOW).increases("recloop_fallbacks_total", 259200)[()]
    fold(engine, NOW)
    fold(engine, NOW)
    assert [FromStore(engine, {}, NOW).increases("recloop_fallbacks_total", x) for x in windows] == before
    assert FromStore(engine, {}, NOW).increases("recloop_fallbacks_total", 259200)[()] == pytest.approx(
        long, abs=2 * 60 / 7 + 2
    )
    with engine.connect() as connection:
        rows = connection.execute(minutes.select()).all()
    assert len(rows) < 8 * 60 / 7 + 60 / 7 + 74


def heard(engine, name, ago, ended=False, started=1_000_000, **counts):
    """A gateway's row: its last beat and its start are as many seconds ago."""
    with engine.begin() as connection:
        beat, begun = (presence._now(connection) - int(x * 1e6) for x in (ago, started))
        row = {"beat": beat, "started": begun, "ended": ended, "counts": json.dumps(counts)}
        connection.execute(gateways.insert().values(id=name, name=name, **row))


def test_a_gateway_that_falls_silent_is_down_until_another_is_started_and_one_that_ends_is_not(engine):
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    heard(engine, "went", 300, ended=True)
    assert names(engine) == set()
    heard(engine, "lost", 200)
    heard(engine, "other", 1)
    assert found(engine) == {"GatewayDown instance=lost"}, "though another one of several answers"
    heard(engine, "new", 1, started=150)
    assert names(engine) == set(), "in its place"
    heard(engine, "also", 100)
    assert found(engine) == {"GatewayDown instance=also"}


def test_a_gateway_that_says_that_it_cannot_read_the_store_is_believed(engine):
    heard(engine, "a", 0, store={"unread seconds": 2.0})
    heard(engine, "b", 0, store={"unread seconds": 11.0})
    heard(engine, "older", 0)
    assert found(engine) == {"StoreUnreadable instance=b"}


def test_an_exporter_that_stops_looking_is_down_where_no_other_one_looks(engine):
    note_exporter(engine, "a:9105", 60.0, NOW - 4 * MINUTE)
    note_exporter(engine, "b:9105", 60.0, NOW - 3 * MINUTE)
    assert names(engine) == set()
    assert found(engine, NOW + 1) == {"ExporterDown instance=b:9105"}
    forget_exporter(engine, "b:9105")
    assert found(engine, NOW + 1) == {"ExporterDown instance=a:9105"}
    forget_exporter(engine, "a:9105")
    assert names(engine) == set(), "both were ended"


def test_each_policy_has_its_figures(engine):
    add_items(engine, [Item(item_id=x, title=x, category="c" if x < "c" else "d") for x in "abcd"])
    shown, acts = [], []
    for n in range(10):
        for place, (item, p) in enumerate((("a", 0.5), ("b" if n % 2 else "c", 0.25))):
            shown.append(
                Impression(request_id=f"r{n}", position=place, user_id=f"u{n}", item_id=item, propensity=p,
                           policy="new", ts=NOW)
            )  # fmt: skip
        for kind, value, which in (("click", 1, n < 4), ("purchase", 9, n < 2), ("dismiss", 1, n == 9),
                                   ("rating", 5, n < 3), ("rating", 1, n == 8)):  # fmt: skip
            if which:
                acts.append(
                    Event(event_id=f"{n}{kind}{value}", user_id=f"u{n}", item_id="a", kind=kind, value=value,
                          request_id=f"r{n}", ts=NOW)
                )  # fmt: skip
    other = {"user_id": "u5", "item_id": "d", "kind": "rating", "value": 5, "request_id": "r5", "ts": NOW}
    append(engine, shown, [*acts, Event(event_id="elsewhere", **other)])
    one = policies(engine, ALL)["new"]
    assert (one.requests, one.clicks, one.purchases) == (10, pytest.approx(0.4), pytest.approx(0.2))
    reward = ALL.reward
    total = 4 * reward.click + 2 * reward.purchase + reward.dismiss + 3 * reward.click
    assert one.reward == pytest.approx(total / 10)
    assert one.low < one.reward < one.high
    assert one.satisfaction == pytest.approx(3 / 5)
    assert one.coverage == pytest.approx(3 / 4)
    assert one.diversity == pytest.approx((1 / 2 + 1) / 2), "half of the slates have both categories"
    e = ALL.serving.exploration
    assert one.exploration == pytest.approx((e / 4 / 0.5 + e / 3 / 0.25) / 2)


def test_exploration_is_measured_by_the_propensities(engine):
    """Slates that are drawn with a share e explore with e; a policy that logs as if it never did is found."""
    from recloop.policy import draw

    e, n, rng = ALL.serving.exploration, 40, np.random.default_rng(3)
    add_items(engine, [Item(item_id=f"i{x:02}", title="t") for x in range(n)])
    slates = draw(rng.normal(size=(4000, n)), 3, rng, 0.3, e)
    append(
        engine,
        [
            Impression(request_id=f"r{b}", position=j, user_id=f"u{b}", item_id=f"i{slates.items[b, j]:02}",
                       propensity=slates.propensities[b, j], policy="p", ts=NOW)
            for b in range(4000) for j in range(3)
        ],
    )  # fmt: skip
    assert policies(engine, ALL)["p"].exploration == pytest.approx(e, rel=0.15)
    assert "ExplorationLost" not in names(engine)
    browse(engine, "greedy", 700, 0.1, "greedy", propensity=1.0, start=NOW)
    browse(engine, "none", 700, 0.1, "fallback", propensity=1.0, start=NOW)
    assert {n for n in found(engine) if n.startswith("Exploration")} == {"ExplorationLost policy=greedy"}


def test_a_user_model_that_is_off_is_found_and_a_right_one_is_not(engine):
    browse(engine, "x", 400, 0.3)
    expect(engine, "p", {"click": 0.31, "purchase": 0.0}, NOW)
    assert "UserModelOff" not in names(engine)
    browse(engine, "y", 400, 0.3, "q")
    expect(engine, "q", {"click": 0.5, "purchase": 0.1}, NOW)
    expect(engine, "q", {"click": 0.3, "purchase": 0.0}, NOW)  # the first word holds
    assert {n for n in found(engine) if n.startswith("User")} == {
        "UserModelOff act=click policy=q",
        "UserModelOff act=purchase policy=q",
    }


def test_miscalibration_is_the_least_that_the_bounds_leave():
    assert miscalibration(0.2, 0.1, 0.3) == 0.0
    assert miscalibration(0.2, 0.4, 0.5) == pytest.approx(math.log(2))
    assert miscalibration(0.2, 0.05, 0.1) == pytest.approx(math.log(2))
    assert miscalibration(0.2, -math.inf, math.inf) == 0.0


def test_flows_that_fail_twice_and_a_training_that_is_old(engine):
    note_run(engine, "retrain", True, 60.0, NOW)
    note_run(engine, "retrain", False, 5.0, NOW)
    assert names(engine) == set()
    note_run(engine, "retrain", False, 5.0, NOW)
    assert found(engine) == {"FlowFails flow=retrain"}
    note_run(engine, "retrain", True, 61.0, NOW)
    assert names(engine) == set()
    assert names(engine, NOW + 72 * HOUR) == set()
    assert names(engine, NOW + 72 * HOUR + 1_000_000) == {"TrainingOld"}
    assert flow_runs(engine)["retrain"].ended == 4


def test_retraining_is_asked_for_once_in_a_cool_down(engine):
    assert may_ask(engine, 3600, NOW)
    assert not may_ask(engine, 3600, NOW + HOUR - 1)
    assert may_ask(engine, 3600, NOW + HOUR)


def test_what_was_reported_of_training_and_the_user_model_is_exported(engine):
    def told():
        found = gauges(engine, ALL, NOW)
        return {
            name: found[name]
            for name in GAUGES
            if name.startswith(("recloop_training_", "recloop_user_model_c"))
        }

    assert not any(told().values()), "nothing was trained here"
    Path("reports").mkdir()
    Path("reports/training.json").write_text(
        json.dumps({"algorithm": "slateq", "seconds": 23.4, "final_return": 22.4, "peak_memory_mb": 728})
    )
    Path("reports/user_model.json").write_text(
        json.dumps({"test": {"click_calibration_error": 0.04, "click_auc": 0.7}})
    )
    by = (("algorithm", "slateq"),)
    assert {name: values for name, values in told().items() if values} == {
        "recloop_training_return": {by: 22.4},
        "recloop_training_duration_seconds": {by: 23.4},
        "recloop_training_memory_bytes": {by: 728e6},
        "recloop_user_model_calibration_error": {(("event", "click"), ("people", "test")): 0.04},
    }
    for broken in ("", "[1]", '{"test": 3}'):
        for name in ("training", "user_model"):
            Path(f"reports/{name}.json").write_text(broken)
        assert not any(told().values())

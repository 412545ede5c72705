"""Drift by the season: stationary months are quiet, a shift is found within the hour, patterns are none."""

import json
from collections import Counter
from datetime import datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from sqlalchemy import select

from recloop.schema import Impression, Item, Traffic, User
from recloop.settings import load_params
from recloop.store import add_items, add_users, append, open_store
from recloop.store.tables import digests
from recloop.watch import check
from recloop.watch.digest import AT_ONCE, BUCKET_US, DAY_US, HOUR_US, KEPT_US, digest, digested
from recloop.watch.season import HOW, LEAST, seasonal
from tests.delivery.live import PARAMS

START = 2600 * 7 * DAY_US + 4 * DAY_US  # a Monday
SHARES = {
    "device": ("phone", "desktop", "tablet", "unknown"),
    "sex": ("F", "M", "unknown"),
    "region": ("Seoul", "Busan", "Daegu", "Incheon", "Jeju"),
    "age": ("10", "20", "30", "40", "50", "60"),
    "category p": tuple(f"c{n}" for n in range(12)),
    "propensity p": tuple(f"{10 ** (-n / 3):.4g}" for n in range(9)),
}


class Traffic30:
    """People by the hour of the week: how many come, and who, have a daily and a weekly pattern."""

    def __init__(self, seed: int, per_hour: float) -> None:
        self.rng, self.per_hour = np.random.default_rng(seed), per_hour
        self.base = {name: self.rng.dirichlet(np.full(len(v), 2.0)) for name, v in SHARES.items()}
        self.other = {name: self.rng.dirichlet(np.full(len(v), 2.0)) for name, v in SHARES.items()}

    def bucket(self, ts: int, shift: dict[str, np.ndarray] | None = None) -> dict[str, dict[str, int]]:
        hour, weekend = ts // HOUR_US % 24, (ts // DAY_US + 3) % 7 >= 5
        people = self.rng.poisson(self.per_hour / 6 * (1 + 0.8 * np.sin(2 * np.pi * (hour - 9) / 24)))
        day = 0.5 + 0.5 * np.cos(2 * np.pi * hour / 24) if not weekend else 0.9
        counts = {}
        for name, values in SHARES.items():
            share = (1 - 0.6 * day) * self.base[name] + 0.6 * day * self.other[name]
            share = (shift or {}).get(name, share)
            drawn = self.rng.multinomial(people, share)
            counts[name] = {value: int(n) for value, n in zip(values, drawn, strict=True) if n}
        return counts


def alarms(seed, days, per_hour, every=1):
    """Features and hours that were called drift in stationary days, after four weeks of the same."""
    traffic, known, found = Traffic30(seed, per_hour), {}, Counter()
    for bucket in range((28 + days) * 144):
        ts = START + bucket * BUCKET_US
        known[ts] = traffic.bucket(ts)
        if bucket >= 28 * 144 and bucket % every == 0:
            for one in seasonal(known, ts + BUCKET_US - 1):
                if one.drift.drifted:
                    found[one.drift.feature, ts // HOUR_US] += 1
    return found


@pytest.mark.parametrize("per_hour", [60, 400, 4000])
def test_thirty_stationary_days_are_quiet(per_hour):
    assert len(alarms(1, 30, per_hour, every=6)) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("per_hour", [300, 3000])
def test_thirty_stationary_days_are_quiet_at_every_look(seed, per_hour):
    assert len(alarms(seed, 30, per_hour)) <= 1


def test_a_week_without_a_past_is_quiet_too():
    """Only the same hour of other days is there, weekends against working days included."""
    traffic, known, found = Traffic30(7, 1500), {}, []
    for bucket in range(7 * 144):
        ts = START + bucket * BUCKET_US
        known[ts] = traffic.bucket(ts)
        found += [one for one in seasonal(known, ts + BUCKET_US - 1) if one.drift.drifted]
    assert found == []


SHIFTED = {
    "device": np.array([0.05, 0.05, 0.05, 0.85]),
    "age": np.array([0.6, 0.2, 0.05, 0.05, 0.05, 0.05]),
    "category p": np.array([0.6] + [0.4 / 11] * 11),
    "propensity p": np.array([0.0] * 7 + [0.5, 0.5]),
}


@pytest.mark.parametrize("feature", SHIFTED)
@pytest.mark.parametrize("begins", [3, 11.5, 20])
def test_a_shift_is_found_within_the_hour_at_400_people_an_hour(feature, begins):
    traffic, known = Traffic30(3, 2000), {}  # 400 at night, where it begins at three
    first = 29 * 144 + int(begins * 6)
    for bucket in range(first):
        ts = START + bucket * BUCKET_US
        known[ts] = traffic.bucket(ts)
    for bucket in range(first, first + 6):
        ts = START + bucket * BUCKET_US
        known[ts] = traffic.bucket(ts, {feature: SHIFTED[feature]})
    found = [one for one in seasonal(known, ts + BUCKET_US - 1) if one.drift.drifted]
    assert [one.drift.feature for one in found] == [feature.partition(" ")[0]]
    assert found[0].kind == HOW[feature.partition(" ")[0]][0]


def test_a_change_for_good_is_news_for_a_day():
    traffic, known = Traffic30(3, 1000), {}
    for bucket in range(31 * 144):
        ts = START + bucket * BUCKET_US
        known[ts] = traffic.bucket(ts, {"device": SHIFTED["device"]} if bucket >= 29 * 144 else None)
    drifted = [
        any(one.drift.drifted for one in seasonal(known, START + hour * HOUR_US - 1))
        for hour in range(29 * 24 + 12, 31 * 24)
    ]
    assert all(drifted[:12])
    assert not any(drifted[13:])


def test_few_people_say_nothing():
    known = {START + b * BUCKET_US: {"sex": {"F": 10, "M": 10}} for b in range(29 * 144)}
    newest = max(known)
    known |= {newest - place * BUCKET_US: {"sex": {"F": (LEAST - 1) // 6}} for place in range(6)}
    assert seasonal(known, newest + BUCKET_US - 1) == []
    known |= {newest - place * BUCKET_US: {"sex": {"F": LEAST // 6 + 1}} for place in range(6)}
    assert [one.drift.drifted for one in seasonal(known, newest + BUCKET_US - 1)] == [True]


@pytest.mark.parametrize(("zone", "drifted"), [("Asia/Seoul", False), ("UTC", True)])
def test_a_weekend_is_that_of_the_people(zone, drifted):
    """Six in the morning of a Saturday in Seoul is a Friday's evening in UTC; the store knows six days."""
    seoul = ZoneInfo("Asia/Seoul")
    sunday = int(datetime(2026, 6, 7, tzinfo=seoul).timestamp()) * 1_000_000
    known = {}
    for bucket in range(6 * 144 + 7 * 6):
        ts = sunday + bucket * BUCKET_US
        weekend = datetime.fromtimestamp(ts / 1e6, seoul).weekday() >= 5
        known[ts] = {"device": {"phone": 35, "desktop": 5} if weekend else {"phone": 5, "desktop": 35}}
    (one,) = seasonal(known, max(known) + BUCKET_US - 1, zone)
    assert (one.reference, one.drift.drifted) == ("same hour of the day", drifted)


def test_what_a_new_policy_does_is_not_held_against_the_old_one():
    known = {START + b * BUCKET_US: {"category old": {"a": 90, "b": 10}} for b in range(20 * 6)}
    fresh = {START + b * BUCKET_US: {"category new": {"a": 10, "b": 90}} for b in range(20 * 6, 22 * 6)}
    assert seasonal(known | fresh, max(fresh) + BUCKET_US - 1)[0].drift.drifted is False
    turned = {START + b * BUCKET_US: {"category new": {"a": 90, "b": 10}} for b in range(22 * 6, 23 * 6)}
    (one,) = seasonal(known | fresh | turned, max(turned) + BUCKET_US - 1)
    assert (one.policy, one.reference, one.drift.drifted) == ("new", "hours before", True)


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    add_users(engine, [User(user_id=f"u{n}", age=20 + n, sex="F", region="Seoul") for n in range(30)])
    add_items(engine, [Item(item_id="a", title="t", category="logo")])
    return engine


def shown(request, user, ts, **more):
    return [
        Impression(**{"request_id": request, "position": place, "user_id": user, "item_id": "a",
                      "propensity": 0.3, "policy": "p", "device": "phone", "ts": ts} | more)
        for place in range(2)
    ]  # fmt: skip


NOW = START + 40 * DAY_US


def total(engine):
    found = Counter()
    for counts in digested(engine, 0, NOW + HOUR_US).values():
        for feature, values in counts.items():
            for value, n in values.items():
                found[feature, value] += n
    return found


def test_the_log_is_digested_once_and_a_person_counts_once_in_an_hour(engine):
    hour = NOW // HOUR_US * HOUR_US
    append(engine, shown("r1", "u1", hour) + shown("r2", "u1", hour + 1) + shown("r3", "u2", hour + 2))
    assert digest(engine, NOW + HOUR_US) == 3
    assert digest(engine, NOW + HOUR_US) == 0
    assert total(engine)["device", "phone"] == 2
    append(engine, shown("r4", "u1", hour + BUCKET_US) + shown("r5", "u3", hour + BUCKET_US, device="tv"))
    append(engine, shown("r6", "u1", hour - 1))
    append(engine, shown("r7", "stranger", hour + 5, policy="fallback"))
    append(engine, shown("r8", "u9", hour, traffic=Traffic.BOT) + shown("r9", "u9", hour, partial=True))
    append(engine, shown("r10", "u8", hour - KEPT_US - HOUR_US))
    digest(engine, NOW + HOUR_US)
    found = total(engine)
    assert found["device", "phone"] == 4, "u1 and u2, u1 an hour before, and the stranger"
    assert found["device", "tv"] == 1
    assert found["region", "unknown"] == 1
    assert found["age", "20"] == 4
    assert found["category p", "logo"] == 4, "the fallback is no policy"
    assert found["propensity p", "0.4642"] == 4, "the bound above 0.3"


def test_parts_give_what_the_whole_gives(engine, new_store, monkeypatch):
    rng, hour = np.random.default_rng(5), NOW // HOUR_US * HOUR_US
    times = hour - 5 * HOUR_US + np.arange(400) * 5 * HOUR_US // 400 - rng.integers(HOUR_US, size=400)
    rows = [shown(f"r{n}", f"u{rng.integers(30)}", int(ts)) for n, ts in enumerate(times)]
    append(engine, [one for row in rows for one in row])
    other = open_store(new_store())
    add_users(other, [User(user_id=f"u{n}", age=20 + n, sex="F", region="Seoul") for n in range(30)])
    add_items(other, [Item(item_id="a", title="t", category="logo")])
    digest(engine, NOW)
    assert AT_ONCE > 400
    monkeypatch.setattr("recloop.watch.digest.AT_ONCE", 37)
    for start in range(0, 400, 90):
        append(other, [one for row in rows[start : start + 90] for one in row])
        digest(other, NOW)
    assert total(other) == total(engine)


def test_from_the_store_to_the_alert_within_an_hour(engine, tmp_path, monkeypatch):
    """Three days at 400 people an hour with a daily pattern; then a form that no longer sends the device."""
    monkeypatch.chdir(tmp_path)
    monday = START + 42 * DAY_US
    rng, begins = np.random.default_rng(11), monday + 2 * DAY_US + 25 * HOUR_US // 2  # half past noon
    rows = []
    for n in range(400 * 62):
        ts = monday + n * HOUR_US // 400
        if not (ts - begins + 2 * HOUR_US) % DAY_US < 4 * HOUR_US:
            continue  # what is compared is around noon
        night = 0.5 + 0.5 * np.cos(2 * np.pi * (ts % DAY_US) / DAY_US)
        device = "phone" if rng.random() < 0.3 + 0.5 * night else "desktop"
        if ts >= begins and rng.random() < 0.8:
            device = "unknown"
        rows.append(
            Impression(request_id=f"r{n}", position=0, user_id=f"u{n % 9000}", item_id="a", propensity=0.3,
                       policy="p", device=device, ts=ts)
        )  # fmt: skip
    append(engine, [row for row in rows if row.ts < begins])
    params = load_params(PARAMS)
    assert check(engine, params, begins) == []
    append(engine, [row for row in rows if begins <= row.ts < begins + HOUR_US])
    (alert,) = check(engine, params, begins + HOUR_US - 1)
    assert alert.name == "Drift feature=device kind=inputs reference=same hour of the day"


def test_a_digest_names_nobody(engine):
    append(engine, shown("r1", "u1", NOW - 1))
    digest(engine, NOW)
    with engine.connect() as connection:
        (row,) = connection.execute(select(digests)).all()
    assert "u1" not in row.counts
    assert "r1" not in json.dumps(list(map(str, row)))

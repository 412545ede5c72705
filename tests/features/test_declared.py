"""Steps that params.yaml declares: the same in serving as in training, fitted on the train split alone."""

import json
from pathlib import Path
from unicodedata import normalize

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import mutual_info_score

from benchmarks.preprocessing import write_log
from recloop.features import Acts, Catalogue, FeatureSpec, Steps
from recloop.features.build import build_features
from recloop.features.fit import DeclarationError
from recloop.features.people import People
from recloop.features.select import describe, judge_columns
from recloop.schema import Item, User
from recloop.settings import load_params
from recloop.settings.params import (
    FeatureParams,
    RewardParams,
    SelectionParams,
    TargetEncodingParams,
    TextParams,
)

REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
PARAMS = FeatureParams(
    history=4,
    session_gap_minutes=30,
    test_share=0.3,
    ages=(18, 80),
    farthest=1.0,
    one_hot=3,
    target_encoding=TargetEncodingParams(columns=("job", "own", "region"), folds=3, smoothing=5.0),
    text=TextParams(columns=32, components=4),
    behaviour=3,
    selection=SelectionParams(variance=0.01),
)


def apart(text: str, number: int) -> str:
    """Hangul in two spellings, as a store holds it that was filled before records composed it."""
    return normalize("NFD", text) if number % 3 else text


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """8,000 events; of each person an attribute that nobody shares and two that everybody does."""
    folder = tmp_path_factory.mktemp("log")
    write_log(folder, 8_000)
    users = pl.read_parquet(folder / "users.parquet")
    told = [
        json.dumps(json.loads(text) | {"own": user_id, "planet": "earth", "기술": apart("디자인", n)})
        for n, (user_id, text) in enumerate(users.select("user_id", "attributes").iter_rows())
    ]
    regions = [apart(region.replace("region", "지역"), n) for n, region in enumerate(users["region"])]
    users.with_columns(attributes=pl.Series(told), region=pl.Series(regions)).write_parquet(
        folder / "users.parquet"
    )
    items = pl.read_parquet(folder / "items.parquet")
    items.with_columns(text=pl.format("about {} and {}", "category", "price")).write_parquet(
        folder / "items.parquet"
    )
    return folder


@pytest.fixture(scope="module")
def features(log, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("features")
    build_features(log, out, PARAMS, REWARD)
    return out


def people_of(log, features, name):
    """Steps and acts of a split, and the user of each index in it."""
    steps, acts = Steps.load(features / f"{name}.npz"), Acts.load(features / f"{name}_acts.npz")
    shown = pl.read_parquet(log / "impressions.parquet")
    when = dict(shown.select(pl.col("ts").dt.epoch("us"), "user_id").iter_rows())
    return (
        steps,
        acts,
        {user: when[ts] for user, ts in zip(steps.user.tolist(), steps.ts.tolist(), strict=True)},
    )


@pytest.mark.parametrize("name", ["train", "test"])
def test_a_slot_computes_what_training_saw_of_every_request(log, features, name):
    spec = FeatureSpec.load(features / "spec.json")
    steps, acts, names = people_of(log, features, name)
    users = {
        row["user_id"]: User(**{**row, "attributes": json.loads(row["attributes"]), "created_at": 0})
        for row in pl.read_parquet(log / "users.parquet").iter_rows(named=True)
    }
    devices = dict(
        pl.read_parquet(log / "impressions.parquet").select(pl.col("ts").dt.epoch("us"), "device").iter_rows()
    )
    for i in range(len(steps)):
        user, ts = int(steps.user[i]), int(steps.ts[i])
        past = acts.item[(acts.user == user) & (acts.ts < ts)][::-1]
        online = spec.observation(users[names[user]], [spec.item_ids[j] for j in past], devices[ts], ts)
        for part, array in online.items():
            np.testing.assert_array_equal(array[0], getattr(steps, part)[i], err_msg=f"{part} of request {i}")
    assert np.ptp(steps.profile[:, -3:], axis=0).min() > 0, "the encodings say something"


def test_an_item_alone_is_described_as_in_the_catalogue(log, features):
    spec, catalogue = FeatureSpec.load(features / "spec.json"), Catalogue.load(features / "items.npz")
    records = json.loads((features / "items.json").read_text())
    item = Item(**records[5]).model_dump()
    alone, groups = spec.items.matrix([item])
    assert catalogue.groups.tolist() == [*groups.tolist(), *["behaviour"] * 3]
    np.testing.assert_allclose(alone[0], catalogue.features[5, : len(groups)], atol=1e-6)
    assert "text" in groups


def test_nothing_that_the_test_split_did_is_in_the_specification_or_the_train_split(log, features, tmp_path):
    """The planted leak: everyone in the test split buys whatever they touch."""
    held_out = set(people_of(log, features, "test")[2].values())
    for file in log.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    acts = pl.read_parquet(log / "events.parquet")
    bought = pl.when(pl.col("user_id").is_in(held_out)).then(pl.lit("purchase")).otherwise("kind")
    acts.with_columns(kind=bought).write_parquet(tmp_path / "events.parquet")
    build_features(tmp_path, tmp_path / "out", PARAMS, REWARD)
    assert (tmp_path / "out" / "test.npz").read_bytes() != (features / "test.npz").read_bytes()
    for name in ("spec.json", "train.npz", "train_acts.npz", "items.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (features / name).read_bytes(), name


def test_an_attribute_of_ones_own_does_not_bring_ones_own_reward(log, features):
    """The other planted leak: whose word nobody shares would get the mean of their own rewards."""
    spec = FeatureSpec.load(features / "spec.json")
    steps = Steps.load(features / "train.npz")
    own = steps.profile[:, spec.profile_groups["own encoded"]].ravel()
    mean = (np.bincount(steps.user, steps.reward) / np.bincount(steps.user))[steps.user]
    assert np.corrcoef(mean, steps.reward)[0, 1] > 0.25, "it would have shown"
    assert abs(np.corrcoef(own, steps.reward)[0, 1]) < 0.1


def test_outliers_count_as_unknown_or_as_that_far_and_are_reported(log, tmp_path):
    spec_figures = build_features(log, tmp_path, PARAMS, REWARD)
    spec = FeatureSpec.load(tmp_path / "spec.json")
    old, far = (User(user_id="x", age=age, attributes={"visits": v}) for age, v in ((95, 0.0), (30, 1e6)))
    at = spec.profile_groups
    assert spec.profile(old)[at["age band"]].tolist() == spec.profile(None)[at["age band"]].tolist()
    assert spec.profile(far)[at["visits"]].tolist() == [1.0, 0.0]
    cleaning, columns = spec_figures["cleaning"], spec_figures["columns"]
    ages = pl.read_parquet(log / "users.parquet")["age"]
    assert 0 < cleaning["beyond"]["age"] <= ((ages < 18) | (ages > 80)).sum()
    assert cleaning["beyond"]["visits"] > 0
    assert cleaning["missing"]["job"] == 0
    assert [columns[name]["kept"] for name in ("planet", "job")] == [False, True]
    assert "planet" not in spec.categories
    assert len(spec.categories["job"]) == 3


def test_one_persons_wrong_number_spoils_nobodys_features(log, tmp_path):
    for file in log.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    users = pl.read_parquet(log / "users.parquet")
    told = [json.loads(text) for text in users["attributes"]]
    for n, one in enumerate(told):
        one["rate"] = 1e300 if n == 3 else float(n % 5)
    users.with_columns(attributes=pl.Series([json.dumps(one) for one in told])).write_parquet(
        tmp_path / "users.parquet"
    )
    figures = build_features(tmp_path, tmp_path / "out", PARAMS.model_copy(update={"farthest": 10.0}), REWARD)
    spec = FeatureSpec.load(tmp_path / "out" / "spec.json")
    people = [User(user_id="x", attributes={"rate": rate}) for rate in (0.0, 1.0, 2.0, 3.0, 4.0, 1e300)]
    rates = spec.profiles(people)[:, spec.profile_groups["rate"]][:, 0]
    assert np.diff(rates).min() > 0.3
    assert rates[-1] == 10
    assert figures["cleaning"]["beyond"]["rate"] <= 1


@pytest.mark.parametrize("column", ["regoin", "visits", "age"])
def test_an_encoding_of_a_column_without_words_is_refused(log, tmp_path, column):
    wanted = PARAMS.model_copy(update={"target_encoding": TargetEncodingParams(columns=("job", column))})
    with pytest.raises(DeclarationError, match=f"names '{column}'.*columns with words are sex, region, job"):
        build_features(log, tmp_path, wanted, REWARD)


def test_information_is_that_of_a_peer_and_parts_signal_from_luck():
    rng = np.random.default_rng(0)
    count = 4000
    taste = rng.choice(["a", "b", "c"], count)
    acted = rng.random(count) < np.where(taste == "a", 0.8, 0.2)
    luck = rng.integers(0, 30, count)
    people = People(
        [f"u{i}" for i in range(count)],
        np.full(count, np.nan),
        {
            "taste": (taste.tolist(), np.arange(count)),
            "luck": ([f"w{i}" for i in luck], np.arange(count)),
            "number": (np.where(taste == "a", 5.0, rng.normal(size=count)).tolist(), np.arange(count)),
        },
    )
    ones = np.ones(count)
    judged = judge_columns(people, ones, acted.astype(float), SelectionParams(information=0.01))
    assert {name: verdict["kept"] for name, verdict in judged.items()} == {
        "taste": True, "luck": False, "number": True,
    }  # fmt: skip
    for name, values in (("taste", taste), ("luck", luck)):
        values_seen = len(np.unique(values))
        expected = mutual_info_score(values, acted) - (values_seen - 1) / (2 * count)
        assert judged[name]["information"] == pytest.approx(max(0, expected), abs=1e-9)


def test_the_projects_own_parameters_keep_every_column():
    params = load_params().features
    people = People(["u"], np.array([np.nan]), {"sex": ([None], np.zeros(1, np.int64))})
    assert judge_columns(people, np.ones(1), np.ones(1), params.selection)["sex"]["kept"]
    spec = FeatureSpec(item_ids=(), categories={}, scales={}, devices=(), history=1, rating_positive=4.0)
    assert describe(people, spec)["missing"] == {"age": 1, "sex": 1}

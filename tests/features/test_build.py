"""Preprocessing against a log small enough to work out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recloop.features import Catalogue, FeatureSpec, Steps, build
from recloop.features.build import NoDataError, build_features
from recloop.features.scale import Scale
from recloop.schema import Event, Impression, Item, User
from recloop.settings.params import FeatureParams, RewardParams
from recloop.store import add_items, add_users, append, find_user, history, open_store
from recloop.store.snapshot import watermark, write_snapshot

MINUTE = 60_000_000
PARAMS = FeatureParams(history=3, session_gap_minutes=30, test_share=0.5)
REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)


def shown(request, user, items, ts, propensity=0.5):
    return [
        Impression(
            request_id=request,
            position=p,
            user_id=user,
            item_id=i,
            propensity=propensity,
            policy="p",
            device="phone",
            ts=ts,
        )
        for p, i in enumerate(items)
    ]


def act(request, user, item, kind, ts, value=1.0):
    return Event(
        event_id=f"{request}-{item}-{kind}",
        user_id=user,
        item_id=item,
        kind=kind,
        value=value,
        request_id=request,
        ts=ts,
    )


@pytest.fixture
def built(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    add_items(
        engine,
        [
            Item(item_id=i, title=i, category=c, price=p)
            for i, c, p in [("a", "x", 1.0), ("b", "y", None), ("c", "x", 3.0)]
        ],
    )
    people = [f"u{n}" for n in range(12)]
    add_users(
        engine,
        [User(user_id=u, age=20 + n, sex="F", attributes={"job": "baker"}) for n, u in enumerate(people)],
    )
    for user in people:
        append(
            engine,
            shown(f"{user}-1", user, ["a", "b"], 10 * MINUTE)
            + shown(f"{user}-2", user, ["c", "a"], 20 * MINUTE)
            + shown(f"{user}-3", user, ["b"], 120 * MINUTE, None),
            [
                act(f"{user}-1", user, "b", "click", 11 * MINUTE),
                act(f"{user}-1", user, "b", "purchase", 12 * MINUTE, 30.0),
                act(f"{user}-2", user, "c", "dismiss", 21 * MINUTE),
                act(f"{user}-3", user, "b", "rating", 121 * MINUTE, 3.0),
            ],
        )
    write_snapshot(engine, watermark(engine), tmp_path / "valid")
    figures = build_features(tmp_path / "valid", tmp_path / "features", PARAMS, REWARD)
    return engine, tmp_path / "features", figures


def test_steps_hold_what_the_log_says(built):
    _, folder, figures = built
    train, test = (Steps.load(folder / f"{name}.npz") for name in ("train", "test"))
    assert len(train) + len(test) == 36
    assert figures["train_requests"] == len(train)
    for steps in (train, test):
        np.testing.assert_array_equal(steps.reward.reshape(-1, 3), [[5, -0.5, 0]] * (len(steps) // 3))
        np.testing.assert_array_equal(steps.clicked.reshape(-1, 3), [[1, -1, -1]] * (len(steps) // 3))
        np.testing.assert_array_equal(steps.slate[:3], [[0, 1], [2, 0], [1, 3]])
        np.testing.assert_array_equal(steps.position[:3], [[0, 1], [0, 1], [0, -1]])
        np.testing.assert_array_equal(steps.done[:3], [False, True, True])
        np.testing.assert_array_equal(steps.history[:3], [[3, 3, 3], [1, 3, 3], [1, 3, 3]])
        assert np.isnan(steps.propensity[2]).all()
        assert steps.session[-1] + 1 == len(steps) // 3 * 2


def test_popularity_counts_the_train_split_only(built):
    _, folder, _ = built
    people_in_train = Steps.load(folder / "train.npz").user[-1] + 1
    np.testing.assert_array_equal(Catalogue.load(folder / "items.npz").popularity, [0, people_in_train, 0])


def test_serving_makes_the_same_arrays_as_preprocessing(built):
    engine, folder, _ = built
    spec = FeatureSpec.load(folder / "spec.json")
    for name in ("train", "test"):
        steps = Steps.load(folder / f"{name}.npz")
        last = np.flatnonzero(np.append(steps.user[1:] != steps.user[:-1], True))
        seen = {tuple(row) for row in steps.profile[last]}
        for user_id in (f"u{n}" for n in range(12)):
            past = history(engine, user_id, spec.history, spec.rating_positive)
            online = spec.observation(find_user(engine, user_id), past, "phone", 120 * MINUTE)
            if tuple(online["profile"][0]) in seen:
                np.testing.assert_array_equal(online["history"][0], steps.history[2])
                np.testing.assert_array_equal(online["context"][0], steps.context[2])


def test_nobody_is_in_both_splits_and_a_new_person_moves_nobody(built, tmp_path):
    engine, folder, _ = built
    before = Steps.load(folder / "test.npz").user[-1]
    append(engine, shown("late", "u-new", ["a"], 500 * MINUTE))
    write_snapshot(engine, watermark(engine), tmp_path / "more")
    build_features(tmp_path / "more", tmp_path / "grown", PARAMS, REWARD)
    after = [Steps.load(tmp_path / "grown" / f"{n}.npz").user[-1] + 1 for n in ("train", "test")]
    assert sum(after) == 13
    assert after[1] - before - 1 in (0, 1)


def test_unknown_values_fall_into_their_own_columns(built):
    _, folder, _ = built
    spec = FeatureSpec.load(folder / "spec.json")
    stranger = spec.profile(None)
    assert stranger.sum() == 1 + len(spec.categories)
    assert spec.context("never-seen", 0)[-1] == 1
    assert spec.history_indices(["gone", "b"]).tolist() == [1, 3, 3]
    assert len(spec.profile(User(user_id="x", age=120))) == spec.profile_size


def test_an_empty_catalogue_is_refused_by_name(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/s.db")
    write_snapshot(engine, watermark(engine), tmp_path / "valid")
    with pytest.raises(NoDataError, match="no items"):
        build_features(tmp_path / "valid", tmp_path / "f", PARAMS, REWARD)


def test_how_many_shards_there_are_changes_no_byte(built, tmp_path, monkeypatch):
    _, folder, _ = built
    monkeypatch.setattr(build, "SHARD_ROWS", 7)
    build_features(tmp_path / "valid", tmp_path / "sharded", PARAMS, REWARD)
    for file in folder.iterdir():
        assert (tmp_path / "sharded" / file.name).read_bytes() == file.read_bytes(), file.name


ATTRIBUTE = st.one_of(st.text("ab", max_size=2), st.floats(-1e9, 1e9), st.integers(-9, 9))
PERSON = st.one_of(
    st.none(),
    st.builds(
        User,
        user_id=st.just("u"),
        age=st.one_of(st.none(), st.integers(0, 120)),
        sex=st.sampled_from([None, *"FMX"]),
        region=st.sampled_from([None, "north", "south", ""]),
        attributes=st.dictionaries(st.sampled_from(["job", "visits", "other"]), ATTRIBUTE),
    ),
)


@given(people=st.lists(PERSON, max_size=8))
def test_many_people_at_once_have_the_profiles_of_each_alone(people):
    spec = FeatureSpec(
        item_ids=("a",),
        categories={"sex": ("F", "M"), "region": ("north",), "job": ("a", "b")},
        scales={"visits": Scale(mean=0.3, std=2.7)},
        devices=("phone",),
        history=3,
        rating_positive=4.0,
    )
    together = spec.profiles(people)
    assert (together.dtype, together.shape) == (np.float32, (len(people), spec.profile_size))
    for row, user in zip(together, people, strict=True):
        np.testing.assert_array_equal(row, spec.profile(user))

"""Slices of people: who is in which, Holm's correction, and a loss that is planted in one of them."""

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.evaluation import Returns
from recloop.evaluation.slices import FEWEST, holm, parts, slices
from recloop.features import FeatureSpec
from recloop.schema import Item, User

ITEMS = [Item(item_id="a", title="A", category="x"), Item(item_id="b", title="B", category="y")]
SPEC = FeatureSpec(
    item_ids=("a", "b"),
    categories={"city": ("seoul",), "sex": ("F", "M")},
    scales={},
    devices=("phone", "tv"),
    history=3,
    rating_positive=4.0,
)
HOUR = 3_600_000_000


def observed(people: list[tuple[User | None, list[str], str, int]]) -> dict[str, np.ndarray]:
    rows = [SPEC.observation(user, past, device, hour * HOUR) for user, past, device, hour in people]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def test_people_are_parted_by_what_the_policy_saw_of_them() -> None:
    woman, boy = User(user_id="w", age=44, sex="F"), User(user_id="b", age=17, sex="M")
    labels = parts(
        observed(
            [
                (woman, ["a", "b", "b"], "tv", 0),
                (boy, [], "phone", 23),
                (None, ["a"], "watch", 6),
                (User(user_id="o", age=65, sex="X"), ["b", "a"], "tv", 11),
            ]
        ),
        SPEC,
        ITEMS,
    )
    assert labels["history"].tolist() == ["returning", "new", "returning", "returning"]
    assert labels["category"].tolist() == ["y", "none yet", "x", "x"]
    assert labels["age"].tolist() == ["35 to 44", "under 18", "unknown", "65 or more"]
    assert labels["sex"].tolist() == ["F", "M", "other", "other"]
    assert labels["device"].tolist() == ["tv", "phone", "other", "tv"]
    assert labels["hour"].tolist() == ["00 to 06 h", "18 to 24 h", "06 to 12 h", "06 to 12 h"]


def test_every_hour_falls_into_its_band() -> None:
    labels = parts(observed([(None, [], "tv", hour) for hour in range(48)]), SPEC, ITEMS)["hour"]
    assert [int(label[:2]) for label in labels] == [hour % 24 // 6 * 6 for hour in range(48)]


def test_holm_by_hand() -> None:
    """Holm's own example is sorted p times 4, 3, 2, 1, never falling."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9])) == pytest.approx([1, 1])
    assert holm(np.zeros(0)).tolist() == []


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.2))
def test_holm_rejects_what_stepping_down_rejects(p: list[float], level: float) -> None:
    rejected = np.zeros(len(p), bool)
    for step, at in enumerate(np.argsort(p, kind="stable")):
        if p[at] * (len(p) - step) >= level:
            break
        rejected[at] = True
    np.testing.assert_array_equal(holm(np.array(p)) < level, rejected)


@lru_cache
def town() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What is seen of 800 people, and their devices."""
    rng = np.random.default_rng(0)
    sexes, devices = rng.choice(["F", "M"], 800), rng.choice(["phone", "tv"], 800)
    start = observed(
        [
            (User(user_id="u", age=int(rng.integers(10, 80)), sex=sex), [["a"], ["b"], []][i % 3], device, i)
            for i, (sex, device) in enumerate(zip(sexes, devices, strict=True))
        ]
    )
    return start, devices


def crowd(seed: int, lost: float) -> tuple[Returns, Returns]:
    """The policy earns ``lost`` less among those with a tv, and the same elsewhere."""
    rng, (start, devices) = np.random.default_rng(seed), town()
    none, rival = np.zeros(800, np.int64), rng.normal(10, 3, 800)
    mine = rival + rng.normal(0, 1, 800) - lost * (devices == "tv")
    return Returns(mine, none, none, none, None, start), Returns(rival, none, none, none, None, start)


def test_a_planted_loss_is_warned_of_where_it_is() -> None:
    rows = slices(*crowd(1, lost=1.0), SPEC, ITEMS)
    (tv,) = (row for row in rows if row["value"] == "tv")
    assert tv["loses"]
    assert tv["high"] < 0
    assert tv["difference"] == pytest.approx(tv["policy"] - tv["rival"])
    (phone,) = (row for row in rows if row["value"] == "phone")
    assert not phone["loses"]
    assert tv["people"] + phone["people"] == 800


def test_where_nothing_is_lost_a_warning_is_as_rare_as_its_level() -> None:
    """Of 120 crowds without any loss no more than a few are warned of: 5 % at most, one-sided half of it."""
    warned = sum(any(row["loses"] for row in slices(*crowd(seed, 0.0), SPEC, ITEMS)) for seed in range(120))
    assert warned <= 9  # P(more | 0.025 each) is below 0.002
    uncorrected = sum(
        any(row["high"] is not None and row["high"] < 0 for row in slices(*crowd(seed, 0.0), SPEC, ITEMS))
        for seed in range(20)
    )
    assert uncorrected > 1  # which is why there is a correction


def test_too_few_are_shown_and_not_tested() -> None:
    mine, rival = crowd(2, lost=9.0)
    few = np.arange(FEWEST - 1)
    cut = [
        Returns(r.reward[few], r.requests[few], r.clicks[few], r.purchases[few], None,
                {name: x[few] for name, x in r.start.items()})
        for r in (mine, rival)
    ]  # fmt: skip
    rows = slices(*cut, SPEC, ITEMS)
    assert rows
    assert all(row["p"] is None and not row["loses"] for row in rows)
    single = [row for row in rows if row["people"] == 1]
    assert all(row["low"] is None for row in single)

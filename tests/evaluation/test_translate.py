"""A policy of an older data version sees what it would have seen."""

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from recloop.evaluation import sampler_for
from recloop.features import FeatureSpec
from recloop.features.encoding import Encoding
from recloop.features.scale import Scale
from recloop.policy import Policy, Sampler
from recloop.schema import User


def spec(**changes: Any) -> FeatureSpec:
    base: dict[str, Any] = {
        "item_ids": ("a", "b", "c", "d"),
        "categories": {"sex": ("F", "M"), "region": ("Busan", "Seoul"), "job": ("cook", "smith")},
        "scales": {"income": Scale(mean=3.0, std=2.0), "height": Scale(mean=1.7, std=0.1)},
        "devices": ("desktop", "phone"),
        "history": 3,
        "rating_positive": 4.0,
    }
    return FeatureSpec(**{**base, **changes})


OLD = spec()
NEW = spec(
    item_ids=("x", "d", "b", "c"),
    categories={"region": ("Jeju", "Seoul"), "sex": ("F", "M"), "pet": ("cat",)},
    scales={"height": Scale(mean=1.6, std=0.2), "weight": Scale(mean=60, std=10)},
    devices=("phone", "tablet"),
    history=5,
)


class Recorder:
    """A policy whose scores say what it saw."""

    def __init__(self, of: FeatureSpec) -> None:
        self.spec = of
        self.sampler = Sampler(self.scores, 0.1, 0.05, np.array([False, True, False, False]))
        self.seen: dict[str, np.ndarray] = {}

    def scores(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        self.seen = observation
        return np.tile(np.arange(1, 5, dtype=np.float32), (len(observation["profile"]), 1))


@pytest.mark.parametrize(
    "user",
    [
        None,
        User(user_id="1"),
        User(user_id="1", age=33, sex="M", region="Seoul", attributes={"height": 1.9}),
        User(user_id="1", age=12, sex="X", region="Jeju", attributes={"pet": "cat", "weight": 70.0}),
        User(user_id="1", sex="F", region="Pohang", attributes={"height": "tall"}),
    ],
    ids=["stranger", "nothing known", "known", "new words", "odd words"],
)
@pytest.mark.parametrize("device", ["phone", "tablet", "desktop"])
def test_an_observation_is_rewritten_as_the_older_version_would_have_made_it(
    user: User | None, device: str
) -> None:
    old = Recorder(OLD)
    past, ts = ["x", "c", "d", "d", "b"], 1_700_000_000_000_000
    sampler_for(cast(Policy, old), NEW).score(NEW.observation(user, past, device, ts))
    known = device if device in NEW.devices else "unknown"
    as_before = OLD.observation(user, past, known, ts)
    for name, expected in as_before.items():
        np.testing.assert_allclose(old.seen[name], expected, atol=1e-5, err_msg=name)
        assert old.seen[name].dtype == expected.dtype


@pytest.mark.parametrize("region", ["Seoul", "Busan", "Jeju", None])
def test_an_encoding_that_has_changed_becomes_that_of_a_stranger_with_the_same_word(
    region: str | None,
) -> None:
    encoding = Encoding(folds=2, mean=1.0, std=2.0, prior=(1.0, 3.0, 2.0), words={"Seoul": (4.0, 6.0, 5.0)})
    old, other = (
        spec(encodings={"region": of}) for of in (encoding, encoding.model_copy(update={"mean": 0.0}))
    )
    person = User(user_id="1", region=region)
    for new in (spec(), other):
        recorder = Recorder(old)
        sampler_for(cast(Policy, recorder), new).score(new.observation(person, [], "phone", 0))
        assert recorder.seen["profile"][0, -1] == pytest.approx(encoding.of(region, None))
    recorder = Recorder(old)
    wider = spec(encodings={"region": encoding}, history=9)
    sampler_for(cast(Policy, recorder), wider).score(wider.observation(person, [], "phone", 0))
    assert recorder.seen["profile"][0, -1] == pytest.approx(encoding.of(region, "1"))


def test_scores_follow_their_items_and_new_items_are_never_drawn() -> None:
    sampler = sampler_for(cast(Policy, Recorder(OLD)), NEW)
    observation = NEW.observation(None, [], "phone", 0)
    assert sampler.score(observation).tolist() == [[0, 4, 2, 3]]
    assert sampler.excluded is not None
    assert sampler.excluded.tolist() == [True, False, True, False]  # x is new, b is sold out
    drawn = sampler.slates(
        {k: np.repeat(v, 50, 0) for k, v in observation.items()}, 4, np.random.default_rng(0)
    )
    assert set(drawn.items.ravel().tolist()) == {1, 3}


def test_a_shorter_history_is_filled_up() -> None:
    new = Recorder(NEW)
    sampler_for(cast(Policy, new), OLD).score(OLD.observation(None, ["a", "c"], "phone", 0))
    assert new.seen["history"].tolist() == [[3, 4, 4, 4, 4]]


def test_the_same_version_needs_no_translation(tmp_path: Path) -> None:
    policy = Recorder(OLD)
    OLD.save(tmp_path / "spec.json")
    assert sampler_for(cast(Policy, policy), FeatureSpec.load(tmp_path / "spec.json")) is policy.sampler

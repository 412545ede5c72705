"""What training reads, when it is missing, damaged, of another layout, or says what cannot be."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from recloop import policy
from recloop.agents import TrainingError, train
from recloop.agents.inputs import read_inputs, read_log
from recloop.agents.log import LoggedRows
from recloop.features import Catalogue, FeaturesError, FeatureSpec, Steps
from recloop.market import UserModel
from tests.agents.worlds import HISTORY, ITEMS, params, world


@pytest.fixture
def root(tmp_path) -> Path:
    world(tmp_path)
    spec = FeatureSpec.load(tmp_path / "features" / "spec.json")
    steps(spec).save(tmp_path / "features" / "train.npz")
    return tmp_path


def steps(spec: FeatureSpec, count: int = 30) -> Steps:
    rng = np.random.default_rng(0)
    slate, person = rng.integers(ITEMS, size=(count, 2)), np.arange(count) // 3
    return Steps(
        user=person, session=person, ts=np.arange(count), clicked=np.full(count, -1), slate=slate,
        profile=np.zeros((count, spec.profile_size), np.float32), done=np.arange(count) % 3 == 2,
        context=np.zeros((count, spec.context_size), np.float32), reward=np.ones(count, np.float32),
        history=np.full((count, HISTORY), ITEMS), propensity=np.full((count, 2), 0.5),
        position=np.tile(np.arange(2), (count, 1)),
    )  # fmt: skip


def run(root: Path, algorithm: str = "bc", **agent: object) -> dict:
    return train(
        params(algorithm=algorithm, env_steps=256, **agent), root / "features", root / "user_model",
        root / "policy", root / "reports", root / "checkpoints",
    )  # fmt: skip


def rewrite(file: Path, **changes: np.ndarray | None) -> None:
    """Change arrays of an ``.npz``; None takes one away."""
    with np.load(file) as held:
        arrays = {name: held[name] for name in held.files} | changes
    np.savez(file, **{name: x for name, x in arrays.items() if x is not None})


TWO = np.zeros((ITEMS, 2), np.float32)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("items.npz", {"popularity": None}, "items.npz lacks the array `popularity`"),
        ("items.npz", {"groups": None}, "items.npz lacks the array `groups`"),
        ("items.npz", {"available": np.ones(ITEMS)}, "`available` must be 1-dimensional and hold truth"),
        ("items.npz", {"features": np.zeros(ITEMS)}, "`features` must be 2-dimensional and hold numbers"),
        ("items.npz", {"popularity": np.zeros(3)}, r"the arrays have \[3, 12\] rows"),
        ("items.npz", {"features": TWO}, "has 3 columns of item features, the features 2"),
        ("items.npz", {"features": np.full((ITEMS, 3), np.nan)}, r"column 0 of `features` \(features\)"),
        ("train.npz", {"context": None}, "train.npz lacks the array `context`"),
        ("train.npz", {"reward": np.full(30, "1")}, "`reward` must be 1-dimensional and hold numbers, not"),
        ("train.npz", {"slate": np.zeros((30, 2))}, "`slate` must be 2-dimensional and hold whole numbers"),
        ("train.npz", {"profile": np.zeros((30, 2))}, "`profile` has 2 columns, spec.json says 8"),
        ("train.npz", {"history": np.zeros((30, 9), int)}, "`history` has 9 columns, spec.json says 4"),
        ("train.npz", {"slate": np.full((30, 2), 99)}, "`slate` names items beyond the 12"),
        ("train.npz", {"reward": np.full(30, np.nan)}, "30 rewards of the log are not finite"),
        ("train.npz", {"propensity": np.zeros((30, 2))}, "60 of 60 shown items have a propensity of 0"),
        ("train.npz", {"done": np.array([object()] * 30)}, "cannot be read"),
    ],
)  # fmt: skip
def test_an_array_that_is_missing_or_wrong_is_named(root, name, change, said):
    rewrite(root / "features" / name, **change)
    with pytest.raises(TrainingError, match=said):
        run(root)


@pytest.mark.parametrize("name", ["items.npz", "train.npz", "spec.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "nonsense"])
def test_a_file_that_is_missing_or_damaged_is_named(root, name, damage):
    file = root / "features" / name
    if damage == "missing":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-60])
    else:
        file.write_bytes(b"nonsense")
    with pytest.raises(TrainingError, match=rf"(?s){name} cannot be read .*dvc repro -f preprocess"):
        run(root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"devices": ["phone", "desk"]}, "has 6 columns of the context, the features 7"),
        ({"history": 5}, "has 4 acts of the history, the features 5"),
        ({"categories": {"sex": ["F"]}}, "has 8 columns of the profile, the features 10"),
        ({"item_ids": ["a"]}, "has 12 items and .*spec.json names 1: they are of different data"),
        ({"item_ids": None}, "spec.json cannot be read"),
        ({"colour": 1}, "spec.json cannot be read"),
    ],
)
def test_a_specification_of_other_features_is_refused(root, change, said):
    file = root / "features" / "spec.json"
    content = json.loads(file.read_text()) | change
    file.write_text(json.dumps({name: x for name, x in content.items() if x is not None}))
    with pytest.raises(TrainingError, match=rf"(?s){said}"):
        run(root)


def test_the_features_own_error_names_file_and_remedy(tmp_path):
    with pytest.raises(FeaturesError, match=r"nowhere.npz cannot be read .*dvc repro -f preprocess"):
        Catalogue.load(tmp_path / "nowhere.npz")


@pytest.mark.parametrize("name", ["slateq", "ppo", "thompson"])
def test_a_slate_longer_than_the_catalogue_shows_all_of_it(tmp_path, name):
    world(tmp_path, items=7)
    chosen = params(algorithm=name, env_steps=256, slate=20)
    chosen = chosen.model_copy(update={"serving": chosen.serving.model_copy(update={"slate": 20})})
    train(
        chosen, tmp_path / "features", tmp_path / "user_model", tmp_path / "policy", tmp_path / "reports",
        tmp_path / "checkpoints",
    )  # fmt: skip
    assert policy.load(tmp_path / "policy").manifest.slate == 7


def test_a_catalogue_of_one_item_is_trained_and_served(tmp_path):
    """Whose world has bait and good items needs six; here all but one are taken away."""
    world(tmp_path)
    features, model = tmp_path / "features", UserModel.load(tmp_path / "user_model")
    spec = FeatureSpec.load(features / "spec.json")
    spec.model_copy(update={"item_ids": ("i0",)}).save(features / "spec.json")
    items = Catalogue.load(features / "items.npz")
    Catalogue(items.features[:1], items.popularity[:1], items.available[:1]).save(features / "items.npz")
    (features / "items.json").write_text(json.dumps(json.loads((features / "items.json").read_text())[:1]))
    response = model.response
    for module, names in ((response, ("item_own", "trait_own")), (response.leaving, ("lasting_own",))):
        for name in names:
            setattr(module, name, torch.nn.Parameter(getattr(module, name)[:1], requires_grad=False))
    response.features = response.features[:1]
    start = replace(model.start, history=torch.full_like(model.start.history, 1))
    UserModel(response, start, (1.0, 0.0, 0.0), 15).save(tmp_path / "user_model")
    run(tmp_path, "dqn", slate=3)
    found = policy.load(tmp_path / "policy")
    assert found.scores(found.spec.observation(None, ["i0"], "phone", 0)).shape == (1, 1)


def test_items_that_were_deleted_say_nothing(root):
    """Ids that the specification does not know leave a history; indices beyond N count as padding."""
    run(root)
    found = policy.load(root / "policy")
    spec = found.spec
    clean = spec.observation(None, ["i3", "i1"], "phone", 0)
    stale = spec.observation(None, ["gone", "i3", "lost", "i1"], "phone", 0)
    assert all(np.array_equal(clean[name], stale[name]) for name in clean)
    beyond = {**clean, "history": np.where(clean["history"] == ITEMS, ITEMS + 5, clean["history"])}
    np.testing.assert_array_equal(found.scores(beyond), found.scores(clean))
    only = spec.observation(None, ["gone"], "phone", 0)
    np.testing.assert_array_equal(found.scores(only), found.scores(spec.observation(None, [], "phone", 0)))


def test_a_log_whose_history_names_deleted_items_is_learnt_from(root):
    history = np.full((30, HISTORY), ITEMS)
    history[::2, 0], history[::3, 1] = ITEMS + 3, -1
    rewrite(root / "features" / "train.npz", history=history)
    assert run(root, "iql")["env_steps"] >= 256


def test_sound_files_are_read_as_they_are(root):
    inputs = read_inputs(root / "features", root / "user_model")
    rows = read_log(root / "features", inputs.spec, 0.9)
    assert isinstance(rows, LoggedRows)
    assert len(rows) == 60
    assert inputs.shape.features.shape == (ITEMS, 3)

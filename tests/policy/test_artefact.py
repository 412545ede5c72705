"""The policy's folder: what it holds is checked, and whatever is wrong is refused by name."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from recloop.features import FeatureSpec
from recloop.policy import ArtefactError, Manifest, load, write_artefact
from recloop.schema import Item, User

N, H = 6, 3
SPEC = FeatureSpec(
    item_ids=tuple(f"i{n}" for n in range(N)),
    categories={"sex": ("F", "M")},
    scales={},
    devices=("phone",),
    history=H,
    rating_positive=4.0,
)
ITEMS = [Item(item_id=f"i{n}", title=f"Item {n}", available=n != 2) for n in range(N)]
POPULARITY = np.array([1, 5, 3, 9, 0, 2], np.float32)


def scorer(path: Path, n_items: int = N, profile: int = SPEC.profile_size, scale: float = 1.0) -> Path:
    """scores = profile @ W + context @ V + how often each item is in the history."""
    rng = np.random.default_rng(0)
    weights = {
        "W": scale * rng.standard_normal((profile, n_items)),
        "V": rng.standard_normal((SPEC.context_size, n_items)),
        "E": np.eye(N + 1, n_items),
    }
    nodes = [
        helper.make_node("MatMul", ["profile", "W"], ["p"]),
        helper.make_node("MatMul", ["context", "V"], ["c"]),
        helper.make_node("Gather", ["E", "history"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["h"], keepdims=0),
        helper.make_node("Sum", ["p", "c", "h"], ["scores"]),
    ]
    tensors = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axis"))
    graph = helper.make_graph(
        nodes,
        "scorer",
        [
            helper.make_tensor_value_info("profile", TensorProto.FLOAT, ["b", profile]),
            helper.make_tensor_value_info("context", TensorProto.FLOAT, ["b", SPEC.context_size]),
            helper.make_tensor_value_info("history", TensorProto.INT64, ["b", H]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", n_items])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def export(folder: Path, model: Path, **changes: object) -> Manifest:
    arguments = {
        "spec": SPEC,
        "items": ITEMS,
        "popularity": POPULARITY,
        "algorithm": "dqn",
        "slate": 3,
        "temperature": 0.2,
        "exploration": 0.1,
    }
    return write_artefact(folder, model, **{**arguments, **changes})  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    export(tmp_path / "policy", scorer(tmp_path / "model.onnx"))
    return tmp_path / "policy"


def test_what_is_written_is_what_is_loaded(folder: Path) -> None:
    policy = load(folder)
    assert policy.spec == SPEC
    assert policy.items == ITEMS
    assert policy.popular == ["i3", "i1", "i2", "i5", "i0", "i4"]
    assert policy.manifest.name == f"dqn-{policy.manifest.digest[:10]}"
    observation = SPEC.observation(User(user_id="a", sex="F"), ["i4", "i4"], "phone", 0)
    plain = SPEC.observation(User(user_id="a", sex="F"), [], "phone", 0)
    more = policy.scores(observation) - policy.scores(plain)
    np.testing.assert_allclose(more, [[0, 0, 0, 0, 2, 0]], atol=1e-5)


def test_sold_out_items_are_never_drawn(folder: Path) -> None:
    policy = load(folder)
    observation = {k: np.repeat(v, 500, 0) for k, v in SPEC.observation(None, [], "phone", 0).items()}
    drawn = policy.sampler.slates(observation, 5, np.random.default_rng(0))
    assert set(drawn.items.ravel().tolist()) == {0, 1, 3, 4, 5}
    np.testing.assert_array_equal(policy.sampler.propensities(observation, drawn.items), drawn.propensities)


def test_the_same_parts_give_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    again = export(tmp_path / "again", tmp_path / "model.onnx")
    assert again.digest == load(folder).manifest.digest
    for file in folder.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()
    other = export(tmp_path / "other", tmp_path / "model.onnx", temperature=0.3)
    assert other.digest != again.digest


def test_a_new_export_takes_the_place_of_the_old_one(folder: Path, tmp_path: Path) -> None:
    export(folder, tmp_path / "model.onnx", exploration=0.4)
    assert load(folder).manifest.exploration == 0.4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.onnx", "policy"]


def edit_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    file = folder / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "altered scorer": (lambda f: flip_a_bit(f / "scorer.onnx"), "scorer.onnx was altered"),
    "altered spec": (lambda f: flip_a_bit(f / "spec.json"), "spec.json was altered"),
    "altered items": (lambda f: flip_a_bit(f / "items.json"), "items.json was altered"),
    "truncated scorer": (lambda f: (f / "scorer.onnx").write_bytes(b""), "scorer.onnx was altered"),
    "missing file": (lambda f: (f / "items.json").unlink(), "must hold"),
    "missing manifest": (lambda f: (f / "manifest.json").unlink(), "must hold"),
    "missing folder": (shutil.rmtree, "must hold"),
    "extra file": (lambda f: (f / "weights.bin").write_bytes(b"x"), "weights.bin"),
    "extra folder": (lambda f: (f / "more").mkdir(), "more"),
    "unknown format": (lambda f: edit_manifest(f, lambda m: m.update(format=1)), "manifest.json"),
    "unknown entry": (lambda f: edit_manifest(f, lambda m: m.update(hook="x")), "manifest.json"),
    "no temperature": (lambda f: edit_manifest(f, lambda m: m.update(temperature=0)), "manifest.json"),
    "not JSON": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json"),
    "another file vouched for": (
        lambda f: edit_manifest(f, lambda m: m["files"].update({"../../secret": "0" * 64})),
        "must vouch for",
    ),
    "a file not vouched for": (
        lambda f: edit_manifest(f, lambda m: m["files"].pop("scorer.onnx")),
        "must vouch for",
    ),
    "wrong count": (lambda f: edit_manifest(f, lambda m: m.update(n_items=7)), "counts 7 items"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_that_does_not_vouch_for_itself_is_refused(folder: Path, fault: str) -> None:
    harm, says = FAULTS[fault]
    harm(folder)
    with pytest.raises(ArtefactError, match=says):
        load(folder)


def test_a_link_is_refused_even_to_the_right_bytes(folder: Path, tmp_path: Path) -> None:
    (folder / "scorer.onnx").rename(tmp_path / "elsewhere.onnx")
    (folder / "scorer.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    with pytest.raises(ArtefactError, match=r"scorer\.onnx must be a plain file"):
        load(folder)


def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also from the working directory, where ONNX Runtime would look for them."""
    monkeypatch.chdir(tmp_path)
    model = onnx.load(scorer(tmp_path / "whole.onnx"))
    onnx.save_model(
        model, "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=100
    )
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(ArtefactError, match=r"scorer\.onnx cannot be run"):
        export(tmp_path / "policy", tmp_path / "split.onnx")
    assert not (tmp_path / "policy").exists()


MISFITS: dict[str, tuple[dict, dict, str]] = {
    "other items": ({"n_items": N + 1}, {}, "scorer.onnx gives"),
    "other profile": ({"profile": 3}, {}, "does not take"),
    "diverged": ({"scale": float("inf")}, {}, "not finite"),
    "fewer items": ({}, {"items": ITEMS[:-1], "popularity": POPULARITY[:-1]}, "name different items"),
    "another order": ({}, {"items": ITEMS[::-1]}, "name different items"),
    "other popularity": ({}, {"popularity": POPULARITY[:-1]}, "as many popularities"),
}


@pytest.mark.parametrize("misfit", MISFITS)
def test_parts_that_do_not_fit_are_not_exported(tmp_path: Path, misfit: str) -> None:
    model, changes, says = MISFITS[misfit]
    with pytest.raises(ArtefactError, match=says):
        export(tmp_path / "policy", scorer(tmp_path / "model.onnx", **model), **changes)
    assert [p.name for p in tmp_path.iterdir()] == ["model.onnx"]


def test_what_is_no_model_is_not_exported(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(ArtefactError, match=r"scorer\.onnx cannot be run"):
        export(tmp_path / "policy", tmp_path / "model.onnx")

"""A home with an empty registry, and a tiny policy with the reports of its stages."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from mlflow import MlflowClient
from onnx import TensorProto, helper, numpy_helper

from recloop.features import FeatureSpec
from recloop.policy import write_artefact
from recloop.registry import Evidence
from recloop.schema import Item
from recloop.settings import Places, load_params

PARAMS = Path(__file__).parents[2] / "params.yaml"
SPEC = FeatureSpec(
    item_ids=("a", "b", "c"), categories={}, scales={}, devices=("phone",), history=2, rating_positive=4.0
)
MakePolicy = Callable[[float], Path]


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database with its tables and nothing in them; making one takes seconds."""
    file = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}")
    return file


@pytest.fixture
def where(tmp_path: Path, migrated: Path) -> Places:
    home = tmp_path / "var"
    home.mkdir()
    shutil.copyfile(migrated, home / "mlflow.db")
    return Places(home=home)


@pytest.fixture
def make_policy(tmp_path: Path) -> MakePolicy:
    """A policy whose scores are ``context`` times a matrix filled with the given number."""

    def make(weight: float) -> Path:
        matrix = np.full((SPEC.context_size, 3), weight, np.float32)
        shapes = {"profile": SPEC.profile_size, "context": SPEC.context_size}
        inputs = [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", size]) for n, size in shapes.items()
        ]
        inputs.append(helper.make_tensor_value_info("history", TensorProto.INT64, ["b", SPEC.history]))
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["context", "W"], ["scores"])],
            "scorer",
            inputs,
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", 3])],
            [numpy_helper.from_array(matrix, "W")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(model, tmp_path / "model.onnx")
        items = [Item(item_id=i, title=i.upper()) for i in SPEC.item_ids]
        folder = tmp_path / f"policy-{weight}"
        write_artefact(folder, tmp_path / "model.onnx", SPEC, items, np.arange(3.0), "dqn", 2, 0.3, 0.05)
        return folder

    return make


@pytest.fixture
def evidence(tmp_path: Path) -> Evidence:
    """Reports as the stages leave them, with what MLflow would choke on: NaN, ``@``, 1,500 points."""
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "evaluation.json").write_text(
        json.dumps({"algorithm": "dqn", "ranking": {"ndcg@5": 0.25}, "value": {"policy": float("nan")}})
    )
    (reports / "training.json").write_text(json.dumps({"final_return": 4.5}))
    (reports / "registered.json").write_text(json.dumps({"version": 3}))
    rows = [f"{step * 10},{step / 2},{step},1,1,{'' if step else 2}" for step in range(300)]
    (reports / "learning_curve.csv").write_text("\n".join(["env_steps,mean_return,a,b,c,rare", *rows]))
    (reports / "evaluation.html").write_text("<!doctype html>")
    (reports / "evaluation.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    mark = {"catalogue": "f" * 64, "events": 20, "impressions": 50, "source": "market"}
    (tmp_path / "watermark.json").write_text(json.dumps(mark))
    (tmp_path / "dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  snapshot:\n    outs:\n"
        "    - path: data/snapshot\n      hash: md5\n      md5: 0123456789abcdef0123456789abcdef.dir\n"
    )
    return Evidence(load_params(PARAMS), reports, tmp_path / "watermark.json", tmp_path / "dvc.lock")

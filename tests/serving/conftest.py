"""A tiny policy whose scores are known, and a slot over it and a store."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from sqlalchemy import Engine
from starlette.applications import Starlette
from starlette.testclient import TestClient

from recloop.features import FeatureSpec
from recloop.features.scale import Scale
from recloop.policy import load, write_artefact
from recloop.schema import Item, User
from recloop.serving.app import create_app
from recloop.serving.build import Built, build_bento
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens
from recloop.settings.tokens import FEEDBACK, READ
from recloop.store import add_items, add_users, open_store

FREE = frozenset({READ, FEEDBACK})
PROJECT = Path(__file__).parents[2]
N = 6
SPEC = FeatureSpec(
    item_ids=tuple(f"i{n}" for n in range(N)),
    categories={"sex": ("F", "M")},
    scales={"height": Scale(mean=170.0, std=10.0)},
    devices=("phone",),
    history=3,
    rating_positive=4.0,
)
ITEMS = [Item(item_id=f"i{n}", title=f"Item {n}", available=n != 2) for n in range(N)]


def write_policy(folder: Path, liked: float = 10.0) -> Path:
    """scores = n/10 for item n, + ``liked`` per occurrence in the history, + a share of the profile."""
    weights = {
        "base": np.arange(N) / 10,
        "E": liked * np.eye(N + 1, N),
        "P": np.vstack([np.zeros((SPEC.profile_size - 2, N)), np.ones((2, N)) * np.arange(N) / 100]),
    }
    nodes = [
        helper.make_node("MatMul", ["profile", "P"], ["p"]),
        helper.make_node("Gather", ["E", "history"], ["rows"]),
        helper.make_node("ReduceSum", ["rows", "axis"], ["h"], keepdims=0),
        helper.make_node("Sum", ["p", "h", "base"], ["scores"]),
    ]
    tensors = [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()]
    tensors.append(numpy_helper.from_array(np.array([1]), "axis"))
    widths = {"profile": SPEC.profile_size, "context": SPEC.context_size}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["b", w]) for n, w in widths.items()]
    inputs.append(helper.make_tensor_value_info("history", TensorProto.INT64, ["b", SPEC.history]))
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["b", N])
    graph = helper.make_graph(nodes, "scorer", inputs, [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / f"{folder.name}.onnx"
    onnx.save(model, file)
    write_artefact(folder, file, SPEC, ITEMS, np.arange(N)[::-1], "dqn", 3, 0.3, 0.1)
    return folder


def open_app(recommender: Recommender) -> Starlette:
    """The slot as it is on loopback where there are no tokens."""
    return create_app(recommender, Tokens({}), FREE)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_policy(tmp_path_factory.mktemp("models") / "policy")


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
def engine(url: str) -> Engine:
    """A store that knows the items, and the person ``known``."""
    engine = open_store(url)
    add_items(engine, ITEMS)
    add_users(engine, [User(user_id="known", age=30, sex="F", attributes={"height": 190.0})])
    return engine


@pytest.fixture
def recommender(folder: Path, url: str, engine: Engine) -> Recommender:
    return Recommender(load(folder), Past(url))


@pytest.fixture
def slot(recommender: Recommender) -> TestClient:
    """Raises what the app does not handle, instead of answering 500."""
    return TestClient(open_app(recommender))


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("var")


@pytest.fixture(scope="session")
def built(folder: Path, home: Path) -> Built:
    """A Bento of the tiny policy; building takes seconds."""
    return build_bento(PROJECT, folder, home, {"mlflow_version": 3})

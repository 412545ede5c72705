"""The rooms of docs/architecture.md: imports point downwards, heavy libraries stay in their room."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "recloop"
EVERYWHERE = {"numpy", "pydantic", "recloop", "tqdm"}
ROOMS: dict[str, set[str]] = {
    "schema": {"pyarrow", "pydantic_core"},
    "settings": {"pydantic_settings", "ruamel", "filelock"},
    "store": {"sqlalchemy", "alembic", "cryptography", "pyarrow"},
    "intake": {"duckdb", "polars", "pyarrow", "sqlalchemy", "urllib3"},
    "quality": {"great_expectations", "polars", "duckdb", "pandas", "pyarrow"},
    "features": {"polars", "pyarrow", "scipy"},
    "policy": {"onnxruntime"},
    "market": {"torch", "safetensors", "gymnasium"},
    "agents": {"ray", "torch", "optuna", "gymnasium", "onnx", "onnxruntime", "psutil"},
    "evaluation": {"scipy", "matplotlib", "torch"},
    "experiments": {"scipy", "statsmodels", "matplotlib", "sqlalchemy"},
    "registry": {"mlflow", "onnx", "ruamel", "sqlalchemy"},
    "serving": {"bentoml", "starlette", "msgspec", "prometheus_client", "sqlalchemy"},
    "delivery": {
        "starlette",
        "aiohttp",
        "msgspec",
        "prometheus_client",
        "sqlalchemy",
        "uvloop",
        "psutil",
        "torch",
    },
    "watch": {"prometheus_client", "apprise", "scipy", "sqlalchemy", "polars"},
    "web": {"starlette", "jinja2", "prometheus_client", "sqlalchemy", "uvicorn", "msgspec"},
    "cli": {"typer", "rich", "psutil", "packaging", "sqlalchemy", "filelock"},
}
ORDER = list(ROOMS)


def imports(path: Path) -> set[str]:
    """Dotted names that a file imports, also inside functions."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the room"
            found.add(node.module or "")
            if node.module == "recloop":
                found |= {f"recloop.{alias.name}" for alias in node.names}
    return found


MODULES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_imports_only_what_its_room_may(path: Path) -> None:
    relative = path.relative_to(SOURCE)
    if relative.parts[0] in ("__init__.py", "__main__.py"):
        return
    room = relative.parts[0].removesuffix(".py")
    assert room in ROOMS, f"{relative}: {room} is no room of docs/architecture.md"
    for name in imports(path):
        top = name.split(".")[0]
        if top == "recloop":
            other = name.split(".")[1] if "." in name else room
            if other in ROOMS:
                assert ORDER.index(other) <= ORDER.index(room), f"{relative} reaches up to {other}"
        elif top not in sys.stdlib_module_names:
            assert top in ROOMS[room] | EVERYWHERE, f"{relative} imports {top}, which {room} may not"


def test_prefect_is_imported_in_flows_only() -> None:
    for folder in (SOURCE, ROOT / "pipelines"):
        for path in folder.rglob("*.py"):
            assert not any(name.split(".")[0] == "prefect" for name in imports(path)), path


@pytest.mark.parametrize("room", ["schema", "settings", "store", "features", "policy", "serving.app"])
def test_what_a_slot_loads_is_light(room: str) -> None:
    heavy = "{'torch', 'ray', 'mlflow', 'prefect', 'great_expectations', 'duckdb', 'polars', 'pandas'}"
    code = f"import sys, recloop.{room}; loaded = {heavy} & set(sys.modules); assert not loaded, loaded"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

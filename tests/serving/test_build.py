"""Building a Bento: once per content, whole or not at all, and light."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recloop.policy import ArtefactError, load
from recloop.serving.build import (
    BuildError,
    Built,
    bento_folder,
    bento_home,
    build_bento,
    is_sound,
    serve_command,
)
from tests.serving.conftest import PROJECT, write_policy


def place(home: Path, built: Built) -> Path:
    return bento_home(home) / "bentos" / Path(*built.tag.split(":"))


def test_a_bento_holds_the_policy_and_where_it_is_from(folder: Path, home: Path, built: Built) -> None:
    manifest = load(folder).manifest
    assert (built.policy, built.policy_sha256) == (manifest.name, manifest.digest)
    assert load(place(home, built) / "src/models/policy").manifest == manifest
    assert "mlflow_version: '3'" in (place(home, built) / "bento.yaml").read_text()
    names = {path.name for path in (place(home, built) / "src/src/recloop").iterdir()}
    assert names == {"__init__.py", "schema", "settings", "store", "features", "policy", "serving"}
    assert {path.name for path in bento_home(home).iterdir() if path.name.startswith("building")} == set()


def test_the_same_parts_are_built_once(folder: Path, home: Path, built: Built) -> None:
    stamp = (place(home, built) / "bento.yaml").stat().st_mtime_ns
    assert build_bento(PROJECT, folder, home, {"mlflow_version": 3}) == built
    assert (place(home, built) / "bento.yaml").stat().st_mtime_ns == stamp


@pytest.mark.slow
def test_what_a_killed_build_left_behind_is_built_again(
    folder: Path, home: Path, built: Built, tmp_path: Path
) -> None:
    torn = place(tmp_path, built)
    shutil.copytree(place(home, built), torn)
    (torn / "src/models/policy/spec.json").unlink()
    assert build_bento(PROJECT, folder, tmp_path, {"mlflow_version": 3}) == built
    assert load(torn / "src/models/policy").manifest.digest == built.policy_sha256


@pytest.mark.slow
def test_another_policy_is_another_bento(home: Path, built: Built, tmp_path: Path) -> None:
    other = build_bento(PROJECT, write_policy(tmp_path / "other", liked=3.0), home, {"mlflow_version": 3})
    assert other.tag != built.tag
    assert other.policy != built.policy
    assert place(home, built).exists()
    assert place(home, other).exists()


def test_an_unsound_policy_or_checkout_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"lacks a part of the Bento.*bentofile\.yaml"):
        build_bento(tmp_path, folder, tmp_path / "var", {})
    altered = shutil.copytree(folder, tmp_path / "altered")
    (altered / "items.json").write_text("{}")
    with pytest.raises(ArtefactError, match=r"items\.json was altered"):
        build_bento(PROJECT, altered, tmp_path / "var", {})


def test_another_policy_or_a_link_is_not_sound(home: Path, built: Built, tmp_path: Path) -> None:
    bento = bento_folder(built.tag, home)
    assert is_sound(bento, built.policy_sha256)
    assert not is_sound(bento, "0" * 64)
    copy = shutil.copytree(bento, tmp_path / "copy")
    assert is_sound(copy, built.policy_sha256)
    (tmp_path / "linked").symlink_to(copy)
    assert not is_sound(tmp_path / "linked", built.policy_sha256)
    (copy / "src/infra/slot.py").unlink()
    (copy / "src/infra/slot.py").symlink_to(bento / "src/infra/slot.py")
    assert not is_sound(copy, built.policy_sha256)


def test_a_refusal_of_bentoml_is_passed_on(folder: Path, tmp_path: Path) -> None:
    for part in ("src", "infra"):
        shutil.copytree(PROJECT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "bentofile.yaml").write_text("service: [")
    with pytest.raises(BuildError, match="bentoml build failed"):
        build_bento(tmp_path, folder, tmp_path / "var", {})
    assert not list(bento_home(tmp_path / "var").glob("building*"))


def test_a_slot_imports_its_own_code_and_nothing_heavy(home: Path, built: Built) -> None:
    code = (
        "import sys; import infra.slot, recloop; print(recloop.__file__)\n"
        "heavy = {'ray', 'mlflow', 'prefect', 'torch', 'great_expectations', 'duckdb', 'polars', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    source = place(home, built) / "src"
    here = os.environ | {"RECLOOP_SLOT_HOST": "127.0.0.1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=source, env=here, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(source)


def test_each_slot_has_a_home_of_its_own(tmp_path: Path) -> None:
    homes = [tmp_path / "slots" / colour for colour in ("blue", "green")]
    for port, home in enumerate(homes, 3001):
        argv, environment = serve_command("recloop_slot:abc", tmp_path / "var", home, "127.0.0.1", port)
        assert environment["BENTOML_HOME"] == str(home)
        assert environment["OPENBLAS_NUM_THREADS"] == "1"
        assert argv[1:] == [
            "-m",
            "bentoml",
            "serve",
            "recloop_slot:abc",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        assert (home / "bentos").resolve() == bento_home(tmp_path / "var") / "bentos"
    serve_command("recloop_slot:abc", tmp_path / "moved", homes[0], "127.0.0.1", 3001)
    assert (homes[0] / "bentos").resolve() == bento_home(tmp_path / "moved") / "bentos"

"""What serves is loaded by the process that serves, and by no other that imports the service."""

import hashlib
import importlib
import json
import shutil
from pathlib import Path

import pytest
from bentoml.exceptions import BentoMLException
from starlette.testclient import TestClient


@pytest.fixture
def service(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """The module, as a process on loopback imports it."""
    monkeypatch.setenv("RECLOOP_POLICY", str(folder))
    monkeypatch.setenv("RECLOOP_SLOT_HOST", "127.0.0.1")
    return importlib.import_module("recloop.serving.service")


def broken(folder: Path, copy: Path) -> Path:
    """A policy whose scorer cannot be loaded, though the manifest vouches for it."""
    shutil.copytree(folder, copy)
    (copy / "scorer.onnx").write_bytes(b"no network")
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["scorer.onnx"] = hashlib.sha256(b"no network").hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest))
    return copy


def test_a_policy_is_loaded_where_it_is_served_and_not_before(
    service, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLOOP_POLICY", str(broken(folder, tmp_path / "policy")))
    found = service.Deferred()
    with pytest.raises(BentoMLException, match=r"must not be served: scorer\.onnx cannot be run"):
        _ = found.direct


def test_it_answers_once_it_is_asked(service) -> None:
    found = service.Deferred()
    assert found.direct == ("/recommend",)
    assert TestClient(found.app).post("/recommend", json={"user_id": "p"}).status_code == 200


def test_an_altered_policy_and_a_slot_without_tokens_are_refused_before(
    service, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECLOOP_SLOT_HOST", "0.0.0.0")
    with pytest.raises(BentoMLException, match="the slot does not start"):
        service.Deferred()
    monkeypatch.setenv("RECLOOP_SLOT_HOST", "127.0.0.1")
    shutil.copytree(folder, tmp_path / "policy")
    (tmp_path / "policy" / "items.json").write_text("{}")
    monkeypatch.setenv("RECLOOP_POLICY", str(tmp_path / "policy"))
    with pytest.raises(BentoMLException, match=r"items\.json was altered"):
        service.Deferred()

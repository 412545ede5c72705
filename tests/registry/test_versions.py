"""Aliases, and fetching what was registered and nothing else."""

import shutil
from pathlib import Path

import pytest

from recloop.policy import ArtefactError, load
from recloop.registry import (
    Evidence,
    RegistryError,
    connect,
    fetch,
    note_bento,
    promote,
    register,
    resolve,
)
from recloop.settings import Places
from tests.registry.conftest import MakePolicy


def stored(where: Places, run_id: str) -> Path:
    return where.home / "mlartifacts" / run_id / "artifacts" / "policy"


def test_an_empty_registry_has_no_champion(where: Places) -> None:
    assert resolve(connect(where), "champion") is None
    with pytest.raises(RegistryError, match="has no version 1"):
        promote(connect(where), 1)


def test_promotion_moves_the_champion_and_ends_the_challenge(
    where: Places, make_policy: MakePolicy, evidence: Evidence
) -> None:
    first = register(where, make_policy(1.0), evidence)
    client = connect(where)
    assert resolve(client, "champion") is None
    promote(client, first.version)
    assert resolve(client, "champion") == first
    assert resolve(client, "challenger") is None
    register(where, make_policy(1.0), evidence)
    assert resolve(client, "challenger") is None  # the champion does not challenge itself
    second = register(where, make_policy(2.0), evidence)
    promote(client, first.version)
    assert resolve(client, "challenger") == second  # another one's challenge goes on
    promote(client, second.version)
    assert resolve(client, "champion") == second
    assert resolve(client, "challenger") is None


def test_a_bento_is_remembered(where: Places, make_policy: MakePolicy, evidence: Evidence) -> None:
    version = register(where, make_policy(1.0), evidence).version
    note_bento(connect(where), version, "recloop_slot:abc")
    found = resolve(connect(where), "challenger")
    assert found is not None
    assert found.bento == "recloop_slot:abc"
    with pytest.raises(RegistryError, match="has no version 9"):
        note_bento(connect(where), 9, "recloop_slot:abc")


def test_what_is_fetched_is_what_was_registered(
    where: Places, make_policy: MakePolicy, evidence: Evidence, tmp_path: Path
) -> None:
    found = register(where, make_policy(1.0), evidence)
    into = tmp_path / "deep" / "here"
    into.mkdir(parents=True)
    (into / "left over").touch()
    assert fetch(connect(where), found.version, into) == into
    assert load(into).manifest.digest == found.policy_sha256
    assert [path.name for path in into.parent.iterdir()] == ["here"]


def test_an_altered_file_is_not_fetched(
    where: Places, make_policy: MakePolicy, evidence: Evidence, tmp_path: Path
) -> None:
    found = register(where, make_policy(1.0), evidence)
    file = stored(where, found.run_id) / "scorer.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")
    with pytest.raises(ArtefactError, match=r"scorer\.onnx was altered"):
        fetch(connect(where), found.version, tmp_path / "here")
    assert not (tmp_path / "here").exists()


def test_another_sound_policy_in_its_place_is_not_fetched(
    where: Places, make_policy: MakePolicy, evidence: Evidence, tmp_path: Path
) -> None:
    found = register(where, make_policy(1.0), evidence)
    shutil.rmtree(stored(where, found.run_id))
    shutil.copytree(make_policy(2.0), stored(where, found.run_id))
    with pytest.raises(RegistryError, match="not the one registered"):
        fetch(connect(where), found.version, tmp_path / "here")
    with pytest.raises(RegistryError, match="has no version 9"):
        fetch(connect(where), 9, tmp_path / "here")

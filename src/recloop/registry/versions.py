"""Versions of the policy and who they are: champion, challenger."""

import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, RESOURCE_DOES_NOT_EXIST, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from recloop.policy import load
from recloop.settings import Places

MODEL = "recloop-policy"
EXPERIMENT = "recloop"
POLICY = "policy"  # where a run keeps the policy's folder
DIGEST = "policy_sha256"
BENTO = "bento"
ABSENT = {ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}


class RegistryError(RuntimeError):
    """The registry cannot answer; the message says what to do."""


@dataclass(frozen=True)
class Registered:
    """One version of the policy; ``bento`` is the tag of its Bento, empty before it is packaged."""

    name: str
    version: int
    run_id: str
    policy_sha256: str
    bento: str = ""


def connect(where: Places) -> MlflowClient:
    """A client of the registry under ``where.home``; its artifacts lie beside the database.

    Raises:
        RegistryError: the database cannot be opened.
    """
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.ERROR)
    mlflow.set_tracking_uri(where.mlflow)
    try:
        client = MlflowClient(where.mlflow)
        if client.get_experiment_by_name(EXPERIMENT) is None:
            client.create_experiment(EXPERIMENT, artifact_location=(where.home / "mlartifacts").as_uri())
        mlflow.set_experiment(EXPERIMENT)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise RegistryError(
            f"cannot open the registry at {where.mlflow}: {error}. Check that the folder can be written, that"
            " the disk is not full, and that no newer MLflow has made the file"
        ) from error
    return client


def resolve(client: MlflowClient, alias: str) -> Registered | None:
    """The version that an alias names, or None where nobody has it.

    Raises:
        RegistryError: the registry cannot be read.
    """
    try:
        return described(client.get_model_version_by_alias(MODEL, alias))
    except MlflowException as error:
        if error.error_code in ABSENT:
            return None
        raise RegistryError(f"the registry cannot be read: {error.message}. Look at its database") from error


def versions(client: MlflowClient) -> list[Registered]:
    """All versions, newest first."""
    found = client.search_model_versions(f"name = '{MODEL}'")
    return sorted((described(version) for version in found), key=lambda v: -v.version)


def described(version: ModelVersion) -> Registered:
    """MLflow's version in our words."""
    tags = version.tags
    return Registered(
        version.name, int(version.version), version.run_id or "", tags.get(DIGEST, ""), tags.get(BENTO, "")
    )


def fetch(client: MlflowClient, version: int, into: Path) -> Path:
    """Copy a version's policy into a folder, and check it against its manifest and the registry.

    Raises:
        RegistryError: there is no such version, or what is stored is not what was registered.
        ArtefactError: a file was altered.
    """
    found = _known(client, version)
    into.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=into.parent) as work:
        downloaded = Path(client.download_artifacts(found.run_id, POLICY, work))
        digest = load(downloaded).manifest.digest
        if digest != found.policy_sha256:
            raise RegistryError(f"version {version} holds policy {digest[:12]}, not the one registered")
        shutil.rmtree(into, ignore_errors=True)
        downloaded.rename(into)
    return into


def note_bento(client: MlflowClient, version: int, tag: str) -> None:
    """Remember which Bento serves a version.

    Raises:
        RegistryError: there is no such version.
    """
    _known(client, version)
    client.set_model_version_tag(MODEL, str(version), BENTO, tag)


def promote(client: MlflowClient, version: int) -> None:
    """Make a version the champion; it is no challenger any more.

    Raises:
        RegistryError: there is no such version.
    """
    _known(client, version)
    client.set_registered_model_alias(MODEL, "champion", str(version))
    challenger = resolve(client, "challenger")
    if challenger is not None and challenger.version == version:
        client.delete_registered_model_alias(MODEL, "challenger")


def _known(client: MlflowClient, version: int) -> Registered:
    try:
        return described(client.get_model_version(MODEL, str(version)))
    except MlflowException as error:
        if error.error_code in ABSENT:
            raise RegistryError(f"{MODEL} has no version {version}: {error.message}") from error
        raise

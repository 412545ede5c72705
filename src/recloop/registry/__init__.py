"""The registry: runs, versions and aliases of policies, in MLflow."""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # MLflow reads it once, while it is imported
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

from recloop.registry.lineage import lineage
from recloop.registry.runs import Evidence, register
from recloop.registry.versions import (
    Registered,
    RegistryError,
    connect,
    fetch,
    note_bento,
    promote,
    resolve,
    versions,
)

__all__ = [
    "Evidence",
    "Registered",
    "RegistryError",
    "connect",
    "fetch",
    "lineage",
    "note_bento",
    "promote",
    "register",
    "resolve",
    "versions",
]

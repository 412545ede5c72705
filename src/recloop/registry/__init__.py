"""The registry: runs, versions and aliases of policies, in MLflow."""

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
    "note_bento",
    "promote",
    "register",
    "resolve",
    "versions",
]

"""Ray, for as long as it is needed."""

import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray

OBJECT_STORE_BYTES = 100 * 1024**2  # batches stay in the learner's process; Ray's least is 75 MB


@contextmanager
def cluster(workers: int = 0, store_bytes: int = OBJECT_STORE_BYTES) -> Iterator[None]:
    """The cluster that ``RAY_ADDRESS`` names, else one of this process and ``workers``, which ends with it.

    The latter listens on loopback, asks for a token that only its processes know (Ray asks for one
    unless ``RAY_AUTH_MODE`` is set, and takes ``RAY_AUTH_TOKEN``), and leaves no files. If this process is
    killed, Ray's processes notice and end too, two small ones of them a minute later.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        if not os.environ.get("RAY_ADDRESS"):
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
            options |= {"include_dashboard": False, "num_cpus": 1 + workers}
            options |= {"object_store_memory": store_bytes, "_temp_dir": folder}
        ray.init(**options)
        try:
            yield
        finally:
            ray.shutdown()

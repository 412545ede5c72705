"""Preprocessing on Ray: each shard of people is a task, on any node that sees the files."""

from collections.abc import Callable, Iterator
from typing import Any

import ray
from tqdm import tqdm

STORE_BYTES = 1024**3  # shards wait in Ray's object store to be joined; what does not fit goes to disk


def in_tasks(run: Callable[[Any], Any], parts: list[Any]) -> Iterator[Any]:
    """``map(run, parts)``, a Ray task each, in order; needs a running cluster (``cluster``).

    A task whose process is lost runs again; an error of its own is raised here.
    """
    task = ray.remote(_run)
    held = ray.put(run)
    found = [task.remote(held, part) for part in parts]
    for result in tqdm(found, desc="preprocessing: shards", unit="shard", disable=None):
        yield ray.get(result)


def _run(run: Callable[[Any], Any], part: Any) -> Any:
    return run(part)

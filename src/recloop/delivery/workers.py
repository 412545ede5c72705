"""Several processes of one gateway on one port: what all of them counted, as one exposition.

Each worker writes its counts to files of its own in one folder (``prometheus_client``'s multiprocess mode);
whoever is asked adds them up. Counts of a worker that ended stay, so that no counter falls; its gauges go.
"""

import os
import shutil
from pathlib import Path

import psutil
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from recloop.delivery.meters import Meters

FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when it is imported


def share_counts(home: Path, port: int) -> None:
    """Give the workers that are started from here on one empty folder; call it once, before them."""
    folder = home / "run" / f"counts-{port}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.environ[FOLDER] = str(folder)


def exposition(meters: Meters) -> bytes:
    """For ``/metrics``: what this process counted, or all workers where there are several."""
    return generate_latest(_registry(meters))


def counted(meters: Meters) -> dict[str, Metric]:
    """The same, by name of the metric."""
    return {metric.name: metric for metric in _registry(meters).collect()}


def _registry(meters: Meters) -> CollectorRegistry:
    if FOLDER not in os.environ:
        return meters.registry
    for file in Path(os.environ[FOLDER]).glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not psutil.pid_exists(pid):
            mark_process_dead(pid)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry

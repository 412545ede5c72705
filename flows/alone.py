"""A flow that is run by hand: ``with by_hand(): flow()`` in ``python -m flows.NAME``."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)

from recloop.delivery import processes
from recloop.settings import places


@contextmanager
def by_hand() -> Iterator[None]:
    """Keep Prefect's state under ``RECLOOP_HOME``; where `recloop up` runs a server, report to it.

    Two programs that write to one SQLite file get in each other's way, so there is one server.
    """
    where = places()
    settings = {PREFECT_HOME: where.home / "prefect", PREFECT_SERVER_ANALYTICS_ENABLED: False}
    server = processes.find(where.home, "prefect")
    if server and not os.environ.get("PREFECT_API_URL"):
        settings[PREFECT_API_URL] = f"http://127.0.0.1:{server.port}/api"
    with temporary_settings(settings):
        yield

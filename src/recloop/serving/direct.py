"""A service whose hot route goes past BentoML's layers, which count it, limit its time and match its route.

For each request they look up the labels of five metrics, make a task, and match every route twice: about a
fifth of all that a slate of 5,000 items costs. Here labels are looked up once; the metrics stay BentoML's.
"""

import asyncio
import time
from typing import Any

import bentoml
from bentoml import server_context
from prometheus_client import Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recloop.serving.guard import refuse

BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0]  # seconds


class Meter:
    """One endpoint's part of the metrics that BentoML keeps under ``namespace``.

    They are not registered here: BentoML's own have the same names, and both are read from the files of
    PROMETHEUS_MULTIPROC_DIR.
    """

    def __init__(self, namespace: str, endpoint: str) -> None:
        here = server_context
        said = {
            "service_name": here.bento_name,
            "service_version": here.bento_version,
            "runner_name": here.service_name,
        }
        options: dict[str, Any] = {"namespace": namespace, "registry": None}
        labels = ["endpoint", "service_name", "service_version", "http_response_code", "runner_name"]
        self._total = Counter("request_total", "Total number of runner RPC", labels, **options)
        self._seconds = Histogram(
            "request_duration_seconds", "runner RPC duration in seconds", labels, buckets=BUCKETS, **options
        )
        self._under_way = Gauge(
            "request_in_progress",
            "Total number of runner RPC in progress now",
            ["endpoint", "service_name", "service_version", "runner_name"],
            multiprocess_mode="livesum",
            **options,
        ).labels(endpoint=endpoint, **said)
        self._last = Gauge(
            "last_request_timestamp_seconds", "Timestamp of the last received request", list(said), **options
        ).labels(**said)
        self._said = said | {"endpoint": endpoint}
        self._by_status: dict[int, tuple[Counter, Histogram]] = {}

    def begun(self) -> None:
        """A request has come."""
        self._last.set_to_current_time()
        self._under_way.inc()

    def ended(self, status: int, seconds: float) -> None:
        """It has its answer, or will have none (status 0) and is not counted."""
        self._under_way.dec()
        if not status:
            return
        if status not in self._by_status:
            said = self._said | {"http_response_code": status}
            self._by_status[status] = self._total.labels(**said), self._seconds.labels(**said)
        total, histogram = self._by_status[status]
        total.inc()
        histogram.observe(seconds)


class Direct:
    """ASGI: ``path`` goes to ``app`` for ``timeout`` seconds, else 504; the others go to ``rest``."""

    def __init__(self, rest: ASGIApp, app: ASGIApp, path: str, meter: Meter, timeout: float) -> None:
        self._rest, self._app, self._path, self._meter, self._timeout = rest, app, path, meter, timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != self._path:
            await self._rest(scope, receive, send)
            return
        begun, status = time.perf_counter(), 0

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._meter.begun()
        try:
            async with asyncio.timeout(self._timeout):
                await self._app(scope, receive, noted)
        except TimeoutError:
            if status:
                raise
            await refuse(504, f"this was not done in {self._timeout:g} s", "")(scope, receive, noted)
        finally:
            self._meter.ended(status, time.perf_counter() - begun)


class DirectService(bentoml.Service):  # type: ignore[misc]
    """A service of one mounted thing that has an ``app``, made when it is asked for, and names in ``direct``
    the paths that go there directly."""

    def to_asgi(self, is_main: bool = True) -> ASGIApp:
        """The app that BentoML's worker serves; only there is it made."""
        ((deferred, place, name),) = self.mount_apps
        self.mount_apps[:] = [(deferred.app, place, name)]
        served = super().to_asgi(is_main)
        for path in deferred.direct:
            meter = Meter(self.config["metrics"]["namespace"], path)
            served = Direct(served, deferred.app, path, meter, self.config["traffic"]["timeout"])
        return served

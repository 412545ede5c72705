"""``/metrics`` with the gauges of ``figures``: computed in the background, so that who asks never waits."""

import logging
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from recloop.schema import now_us
from recloop.settings.params import Params
from recloop.store import fault_of
from recloop.watch.expressions import Values
from recloop.watch.figures import GAUGES, gauges
from recloop.watch.memory import Memory
from recloop.watch.notes import forget_exporter, note_exporter
from recloop.watch.rollouts import states

log = logging.getLogger("recloop.watch")
AGE = "recloop_figures_age_seconds"
TOOK = "recloop_figures_seconds"
OFTEN = 5.0  # seconds between looks at rollouts, whose gates act within seconds
OWN = {AGE: "Time since the figures were computed", TOOK: "Time that computing them took"}


class Figures(Collector):
    """The gauges as they were computed last; where the store cannot be read they stay and grow old."""

    def __init__(self, engine: Engine, params: Params) -> None:
        self._engine, self._params, self._memory = engine, params, Memory()
        self._values: dict[str, Values] = {}
        self._took, self._at = 0.0, time.monotonic()

    def refresh(self) -> None:
        """Compute them anew."""
        begun = time.monotonic()
        try:
            values = gauges(self._engine, self._params, memory=self._memory)
        except SQLAlchemyError as error:
            log.warning("the figures stay as they were: %s", fault_of(error))
            return
        self._values, self._at, self._took = values, time.monotonic(), time.monotonic() - begun

    def refresh_rollouts(self) -> None:
        """Of them alone, which costs little."""
        try:
            self._values = self._values | states(self._engine, now_us())
        except SQLAlchemyError as error:
            log.warning("the states of rollouts stay as they were: %s", fault_of(error))

    def collect(self) -> Iterator[Metric]:
        """As Prometheus's client asks for them."""
        own = {AGE: {(): time.monotonic() - self._at}, TOOK: {(): self._took}}
        for name, text in (GAUGES | OWN).items():
            values = (self._values | own).get(name, {})
            labels = [label for label, _ in next(iter(values), ())]
            family = GaugeMetricFamily(name, text, labels=labels)
            for key, value in values.items():
                family.add_metric([found for _, found in key], value)
            yield family


def serve(engine: Engine, params: Params, host: str, port: int, every: float) -> None:
    """Listen until the process is told to end; the first look is done before."""
    figures, registry = Figures(engine, params), CollectorRegistry()
    registry.register(figures)
    figures.refresh()
    server, _ = start_http_server(port, host, registry)
    name = f"{socket.gethostname()}:{server.server_port}"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    try:
        while True:
            _sign(engine, name, every)
            due = time.monotonic() + every
            while time.monotonic() < due:
                time.sleep(min(every, OFTEN))
                figures.refresh_rollouts()
            figures.refresh()
    finally:
        with suppress(SQLAlchemyError):
            forget_exporter(engine, name)


def _sign(engine: Engine, name: str, every: float) -> None:
    """For who looks into the store, and not at ``/metrics``."""
    try:
        note_exporter(engine, name, every, now_us())
    except SQLAlchemyError as error:
        log.warning("the store is not told of this exporter: %s", fault_of(error))

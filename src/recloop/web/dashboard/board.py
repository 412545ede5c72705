"""Who computes the panels, and when: threads of their own, so that a page only shows what is there.

Nothing is computed while nobody looks, but the samples of traffic. A panel is computed again after its time,
and after ten times as long as it took: however large the store, the dashboard takes a tenth of a core at most
for each of its two threads (one for what is quick, one for what reads the log).
"""

import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

log = logging.getLogger("recloop.dashboard")
AWAKE = 60.0  # seconds after the last look
TICK = 0.2  # seconds between looks at what is due
REST = 10.0  # times as long as the work


@dataclass(frozen=True)
class Panel:
    """One panel: its name, seconds after which it is computed again, and how.

    Attributes:
        slow: whether it reads the log.
        always: whether it is computed while nobody looks.
    """

    name: str
    every: float
    compute: Callable[[], Any]
    slow: bool = False
    always: bool = False


@dataclass(frozen=True)
class Shown:
    """What a panel held last; ``error`` says why it could not be computed again, empty where it could."""

    data: Any
    version: int
    error: str


class Board:
    """The panels' newest contents."""

    def __init__(self, panels: Sequence[Panel]) -> None:
        self.panels = tuple(panels)
        self._shown: dict[str, Shown] = {}
        self._looked = float("-inf")
        self._over = threading.Event()

    @property
    def shown(self) -> dict[str, Shown]:
        """By name; a panel that was not computed yet is absent. Counts as a look."""
        self._looked = time.monotonic()
        return dict(self._shown)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Compute while entered. A panel in work at the end is left alone."""
        self._over.clear()
        for slow in (False, True):
            panels = [panel for panel in self.panels if panel.slow == slow]
            threading.Thread(target=self._run, args=(panels,), name="dashboard", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()

    def _run(self, panels: Sequence[Panel]) -> None:
        due: dict[str, float] = {}
        while not self._over.wait(TICK):
            for panel in panels:
                begun = time.monotonic()
                wanted = panel.always or begun - self._looked < AWAKE
                if not wanted or begun < due.get(panel.name, 0.0) or self._over.is_set():
                    continue
                self._compute(panel)
                ended = time.monotonic()
                due[panel.name] = ended + max(panel.every, REST * (ended - begun))

    def _compute(self, panel: Panel) -> None:
        before = self._shown.get(panel.name, Shown(None, 0, ""))
        try:
            data, error = panel.compute(), ""
        except Exception as failure:  # whatever it is, the other panels go on, and this one says so
            log.warning("panel %s: %s", panel.name, type(failure).__name__)
            data, error = before.data, type(failure).__name__
        if before.version == 0 or data != before.data or error != before.error:
            self._shown[panel.name] = Shown(data, before.version + 1, error)

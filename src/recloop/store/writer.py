"""Group commit: many callers, one writing thread, one transaction for all that wait.

A caller's future is done when its rows are on disk, not before. Nothing waits for a timer: while
one transaction commits, the next one gathers. Who gives up before the rows' turn comes cancels the future,
and nothing is written.
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from recloop.schema import Event, Impression
from recloop.store.engine import in_transaction, take_turn
from recloop.store.log import Exposure, Rows, Taken, write_all
from recloop.store.quarantine import Refused

AT_ONCE = 256  # batches of one transaction


class Busy(RuntimeError):
    """Too much waits to be written: the caller should be told to come back later."""


@dataclass
class _Job:
    rows: Rows
    done: Future[Taken] = field(default_factory=Future)


class Writer:
    """Writes to the log from one thread; use as a context manager so that nothing is left behind.

    ``capacity``: rows that may wait, so that memory is bounded when the store stalls.
    """

    def __init__(self, engine: Engine, capacity: int = 50_000) -> None:
        self._engine, self._capacity, self._waiting = engine, capacity, 0
        self._counting = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        shown: Sequence[Impression] = (),
        acts: Sequence[Event] = (),
        refused: Sequence[Refused] = (),
        met: Sequence[Exposure] = (),
    ) -> Future[Taken]:
        """Queue rows; the future holds what became of them once they are committed.

        Raises:
            Busy: too many rows wait.
        """
        job = _Job(Rows(shown, acts, refused, met))
        with self._counting:
            if self._waiting and self._waiting + len(job.rows) > self._capacity:
                raise Busy(f"{self._waiting} rows are waiting to be written")
            self._waiting += len(job.rows)
        self._jobs.put(job)
        return job.done

    def close(self) -> None:
        """Write what is queued and stop."""
        self._jobs.put(None)
        self._thread.join()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self) -> None:
        closing = False
        while not closing:
            batch = [self._jobs.get()]
            while len(batch) < AT_ONCE:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            jobs = [job for job in batch if job is not None]
            closing = len(jobs) < len(batch)
            if jobs:
                self._commit(jobs)
                with self._counting:
                    self._waiting -= sum(len(job.rows) for job in jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        """Write those whose callers still wait when it is our turn."""
        begun: list[_Job] = []

        def write_begun(connection: Connection) -> list[Taken]:
            take_turn(connection)
            begun[:] = [job for job in jobs if job.done.running() or job.done.set_running_or_notify_cancel()]
            return write_all(connection, [job.rows for job in begun])

        try:
            results = in_transaction(self._engine, write_begun)
        except Exception as error:
            failed = begun or [job for job in jobs if job.done.set_running_or_notify_cancel()]
            if len(failed) > 1 and not isinstance(error, OperationalError):
                for job in failed:  # one bad batch must not fail its neighbours
                    self._commit([job])
                return
            for job in failed:
                job.done.set_exception(error)
            return
        for job, taken in zip(begun, results, strict=True):
            job.done.set_result(taken)

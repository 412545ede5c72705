"""Group commit: many callers, one writing thread, one transaction for all that wait.

A caller's future is done when its rows are on disk, not before. Nothing waits for a timer: while
one transaction commits, the next one gathers.
"""

import queue
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from sqlalchemy import Engine

from recloop.schema import Event, Impression
from recloop.store.engine import in_transaction
from recloop.store.log import Refused, Rows, write_all


class Busy(RuntimeError):
    """The writer's queue is full: the caller should be told to come back later."""


@dataclass
class _Job:
    rows: Rows
    done: Future[int] = field(default_factory=Future)


class Writer:
    """Writes to the log from one thread; use as a context manager so that nothing is left behind."""

    def __init__(self, engine: Engine, capacity: int = 4096) -> None:
        self._engine = engine
        self._jobs: queue.Queue[_Job | None] = queue.Queue(capacity)
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def submit(
        self,
        shown: Sequence[Impression] = (),
        acts: Sequence[Event] = (),
        refused: Sequence[Refused] = (),
    ) -> Future[int]:
        """Queue rows; the future holds how many were new once they are committed.

        Raises:
            Busy: the queue is full.
        """
        job = _Job(Rows(shown, acts, refused))
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Busy(f"{self._jobs.maxsize} batches are waiting to be written") from None
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
            while len(batch) < 256:
                try:
                    batch.append(self._jobs.get_nowait())
                except queue.Empty:
                    break
            jobs = [job for job in batch if job is not None]
            closing = len(jobs) < len(batch)
            if jobs:
                self._commit(jobs)

    def _commit(self, jobs: list[_Job]) -> None:
        try:
            rows = [job.rows for job in jobs]
            counts = in_transaction(self._engine, lambda connection: write_all(connection, rows))
        except Exception as error:
            if len(jobs) == 1:
                jobs[0].done.set_exception(error)
                return
            for job in jobs:  # one bad batch must not fail its neighbours
                self._commit([job])
            return
        for job, count in zip(jobs, counts, strict=True):
            job.done.set_result(count)

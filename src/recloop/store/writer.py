"""Group commit: many callers, one writing thread, one transaction for all that wait.

A caller's future is done when its rows are on disk, not before. Nothing waits for a timer: while
one transaction commits, the next one gathers. Who gives up before the rows' turn comes cancels the future,
and nothing is written. A caller's loop is woken once for all of its callers in a transaction.
"""

import asyncio
import queue
import threading
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from recloop.schema import Event, Impression
from recloop.store.engine import in_transaction, statement_alone, take_turn
from recloop.store.log import Exposure, Rows, Taken, one_statement, write_all
from recloop.store.quarantine import Refused

AT_ONCE = 256  # batches of one transaction


class Busy(RuntimeError):
    """Too much waits to be written: the caller should be told to come back later."""


@dataclass(frozen=True, slots=True)
class _Job:
    rows: Rows
    done: asyncio.Future[Taken]


class Writer:
    """Writes to the log from one thread; use as a context manager so that nothing is left behind.

    ``capacity``: rows that may wait, so that memory is bounded when the store stalls.
    """

    def __init__(self, engine: Engine, capacity: int = 50_000) -> None:
        self._engine, self._capacity, self._waiting = engine, capacity, 0
        self._alone = statement_alone(engine)
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
    ) -> asyncio.Future[Taken]:
        """Queue rows; the future, of the loop that runs, holds what became of them once they are committed.

        Raises:
            Busy: too many rows wait.
        """
        rows = Rows(shown, acts, refused, met)
        count = len(rows)
        with self._counting:
            if self._waiting and self._waiting + count > self._capacity:
                raise Busy(f"{self._waiting} rows are waiting to be written")
            self._waiting += count
        done = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(rows, done))
        return done

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
            begun[:] = [job for job in jobs if not job.done.cancelled()]
            return write_all(connection, [job.rows for job in begun])

        engine = self._alone if one_statement([job.rows for job in jobs]) else self._engine
        try:
            results = in_transaction(engine, write_begun)
        except Exception as error:
            failed = begun or jobs
            if len(failed) > 1 and not isinstance(error, OperationalError):
                for job in failed:  # one bad batch must not fail its neighbours
                    self._commit([job])
            else:
                _settle(failed, [error] * len(failed))
            return
        _settle(begun, results)


def _settle(jobs: Sequence[_Job], outcomes: Sequence[Taken | Exception]) -> None:
    """Tell each loop at once what became of its callers' rows."""
    by_loop = defaultdict(list)
    for job, outcome in zip(jobs, outcomes, strict=True):
        by_loop[job.done.get_loop()].append((job.done, outcome))
    for loop, settled in by_loop.items():
        with suppress(RuntimeError):  # it is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, settled)


def _tell(settled: Sequence[tuple[asyncio.Future[Taken], Taken | Exception]]) -> None:
    for done, outcome in settled:
        if done.done():  # the caller gave up meanwhile
            continue
        if isinstance(outcome, Exception):
            done.set_exception(outcome)
        else:
            done.set_result(outcome)

"""The project's folders for one run at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = Path(".dvc/tmp/recloop.lock")  # ours: who waits for it does not fail on DVC's


@contextmanager
def workspace(say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Have data/, models/ and reports/ to oneself; whoever comes second waits. May be nested."""
    LOCK.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(LOCK.resolve(), is_singleton=True)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("another run works in this project: waiting until it is done")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()

"""A server log that goes on: rotated, gzipped, truncated after a copy; read from where it was left.

The place is the file's beginning (a hash of it), which neither a rename nor gzip changes, and how many bytes
of it have been read. It is saved in the transaction that writes the acts up to there, so that a kill loses
and doubles nothing.
"""

import hashlib
import io
import logging
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

from recloop.intake.reasons import unfit
from recloop.intake.server_log import id_of, opened, parse_line
from recloop.intake.source import Batch, DatasetError, Made, TableReport
from recloop.intake.traffic import Rules
from recloop.schema import Event, Impression
from recloop.settings import places
from recloop.store import Refused

log = logging.getLogger("recloop.intake")
HEAD = 1024  # bytes that tell one file from another
AT_ONCE = 1 << 20  # bytes of one batch
LONGEST = 1 << 20  # bytes of a line that is still read as one
GRACE = 5.0  # seconds without a change after which a rotated file gets no more lines


@dataclass(frozen=True)
class Place:
    """How far a file has been read: the hash of its first ``length`` bytes, the offset of what is next."""

    head: str
    length: int
    offset: int


class FollowedLog:
    """A log and its rotated files, from a saved place on; a ``Source``.

    Attributes:
        cursor: the name under which the place is saved.
    """

    name, size = "own", None

    def __init__(
        self,
        path: Path,
        place: dict | None = None,
        wait: Callable[[], bool] | None = None,
        grace: float = GRACE,
        rules: Rules | None = None,
    ) -> None:
        """``wait`` is called when all has been read: it waits, and says whether to go on; None ends there.

        Raises:
            DatasetError: there is no such file.
        """
        if not path.is_file():
            raise DatasetError(f"no log {path}: give the file that the server writes to")
        self.path, self.cursor = path.resolve(), cursor_of(path)
        self._place = None if place is None else Place(**place)
        self._wait, self._grace, self._rules = wait, grace, rules or Rules(places().internal)
        self._report = TableReport(0, 0, 0)

    def tables(self) -> Mapping[str, TableReport]:
        """Lines read, kept as acts, and quarantined."""
        return {"lines": self._report}

    def batches(self) -> Iterator[Batch]:
        """The acts in the order of the files, oldest first."""
        while True:
            moved = False
            for file in self._files():
                for batch in self._read(file):
                    moved = True
                    yield batch
                if file != self.path and not self._finished(file):
                    break  # it may get more lines yet
            if not moved and (self._wait is None or not self._wait()):
                return

    def _files(self) -> list[Path]:
        """From the file where we are to the one that is written now."""
        rotated = [
            path
            for path in self.path.parent.glob(f"{self.path.name}[.-]*")
            if path.is_file() and not path.name.endswith((".tmp", ".swp"))
        ]
        plain = {head for path in rotated if path.suffix != ".gz" if (head := _head(path, HEAD))}
        rotated = [
            path for path in rotated if path.suffix != ".gz" or _head(path, HEAD) not in (None, *plain)
        ]
        files = [*sorted(rotated, key=lambda path: (path.stat().st_mtime_ns, path.name)), self.path]
        if self._place is None or not self._place.length:
            return files
        for number, path in enumerate(files):
            if _head(path, self._place.length) == self._place.head:
                return files[number:]
        log.warning("%s: the file that was read last is gone, and with it what came after", self.path.name)
        self._place = None
        return files

    def _finished(self, path: Path) -> bool:
        if path.suffix == ".gz" or self._wait is None:
            return True
        return time.time() - path.stat().st_mtime > self._grace

    def _read(self, path: Path) -> Iterator[Batch]:
        """What is new in one file; afterwards the place is its end."""
        place = self._place
        if place is None or not place.length or _head(path, place.length) != place.head:
            place = Place("", 0, 0)
        try:
            with opened(path) as file:
                file.seek(place.offset)
                whole = path != self.path and self._finished(path)
                while part := _lines(file, whole):
                    place = self._moved(path, place.offset + len(part))
                    yield self._batch(path, place.offset - len(part), part, place)
        except (EOFError, zlib.error, FileNotFoundError):
            log.warning("%s is being rotated: it is read again", path.name)

    def _moved(self, path: Path, offset: int) -> Place:
        length = min(offset, HEAD)
        self._place = Place(_head(path, length) or "", length, offset)
        return self._place

    def _batch(self, path: Path, offset: int, part: bytes, place: Place) -> Batch:
        shown: list[Impression] = []
        acts: list[Event] = []
        refused: list[Refused] = []
        made: dict[str, Made] = {}
        for raw in io.BytesIO(part):
            line = raw.decode("utf-8", "replace")
            try:
                found = parse_line(line, self._rules)
            except ValueError as error:
                wrong = unfit(error)
                body = {"file": path.name, "offset": offset, "text": line.rstrip("\r\n")}
                refused.append(Refused(self.name, "log", str(wrong), body, wrong.failure))
            else:
                if found:
                    shown += [found[0]] if found[0] else []
                    acts.append(found[1])
                    made[found[1].event_id] = partial(id_of, line)
            offset += len(raw)
            self._report.read += 1
        self._report.kept += len(acts)
        self._report.quarantined += len(refused)
        for row in refused:
            self._report.reasons[row.reason] = self._report.reasons.get(row.reason, 0) + 1
        return Batch(impressions=shown, events=acts, refused=refused, place=asdict(place), made=made)


def cursor_of(path: Path) -> str:
    """The name under which the place in a log is saved."""
    return f"log:{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}:{path.name}"[:128]


def _head(path: Path, length: int) -> str | None:
    """The hash of the first bytes; None where there are fewer and ``length`` is that of a place."""
    try:
        with opened(path) as file:
            head = file.read(length)
    except (OSError, EOFError, zlib.error):
        return None
    return hashlib.sha256(head).hexdigest()[:32] if len(head) == length or length == HEAD else None


def _lines(file: BinaryIO, whole: bool) -> bytes:
    """The next lines that have ended, about ``AT_ONCE`` bytes; of a ``whole`` file the last need not end."""
    part = file.read(AT_ONCE)
    if not part or part.endswith(b"\n"):
        return part
    rest = file.readline(LONGEST)
    if rest.endswith(b"\n") or len(rest) == LONGEST or whole:
        return part + rest
    return part[: part.rfind(b"\n") + 1]

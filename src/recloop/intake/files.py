"""Acts in a table, CSV or Parquet: a column for each field that ``/events`` takes, in any order, of any age.

JSON lines are read as a log (``server_log``). A row without an ``event_id`` has that of its content.
"""

import csv
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.intake.feedback import identity, judge
from recloop.intake.source import ROWS_AT_ONCE, Batch, DatasetError, TableReport
from recloop.intake.times import micros
from recloop.schema import Arrival, now_us
from recloop.store import Refused

NEEDED = ("user_id", "item_id", "kind", "ts")
SUFFIXES = (".csv", ".parquet")


class EventTable:
    """One file; a ``Source``.

    Raises:
        DatasetError: it cannot be read, or lacks a column that every act needs.
    """

    name = "own"

    def __init__(self, path: Path) -> None:
        self.path, self._report = path, TableReport(0, 0, 0)
        try:
            columns, self.size = _parquet_shape(path) if path.suffix == ".parquet" else _csv_shape(path)
        except (OSError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"cannot read {path}: {error}") from error
        if missing := [name for name in NEEDED if name not in columns]:
            found = ", ".join(columns[:12]) or "nothing"
            raise DatasetError(f"{path} has no column {', '.join(missing)}; its columns are {found}")

    def tables(self) -> Mapping[str, TableReport]:
        """Rows read, kept and quarantined."""
        return {"events": self._report}

    def batches(self) -> Iterator[Batch]:
        """The acts in the order of the file."""
        self._report = TableReport(0, 0, 0)
        rows = _parquet_rows(self.path) if self.path.suffix == ".parquet" else _csv_rows(self.path)
        while part := list(islice(rows, ROWS_AT_ONCE)):
            now = now_us()
            judged = judge([_named(row) for row in part], now, self.name, oldest=now)
            refused = [row for row in judged if isinstance(row, Refused)]
            self._report.read += len(judged)
            self._report.kept += len(judged) - len(refused)
            self._report.quarantined += len(refused)
            for row in refused:
                self._report.reasons[row.reason] = self._report.reasons.get(row.reason, 0) + 1
            yield Batch(events=[row for row in judged if isinstance(row, Arrival)], refused=refused)


def _named(row: dict) -> object:
    """A row as ``judge`` takes it; without a time it is left as it is, to be refused."""
    said = {name: value for name, value in row.items() if value not in (None, "")}
    if "ts" not in said:
        return said | {"ts": ""}
    said["ts"] = micros(said["ts"])
    return {"event_id": identity(said)} | said


def _csv_shape(path: Path) -> tuple[list[str], int]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns = next(csv.reader(file), [])
        return columns, sum(1 for _ in file)


def _csv_rows(path: Path) -> Iterator[dict]:
    """A row with too many fields is refused for the name that these get; a short one lacks the last."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        rows = csv.DictReader(file, restkey="fields without a column")
        try:
            yield from rows
        except csv.Error as error:
            raise DatasetError(
                f"{path}, line {rows.line_num}: {error}; is a quotation mark left open there? Repair it and"
                " import it again, which adds only what is missing"
            ) from error


def _parquet_shape(path: Path) -> tuple[list[str], int]:
    with pq.ParquetFile(path) as file:
        return file.schema_arrow.names, file.metadata.num_rows


def _parquet_rows(path: Path) -> Iterator[dict]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            yield from batch.to_pylist()

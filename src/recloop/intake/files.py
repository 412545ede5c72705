"""Tables of one's own, CSV, Parquet or JSON lines: acts, what was shown, and people.

A column for each field, in any order; an empty field is absent. Times are µs since 1970, or ISO 8601 with an
offset; they may be of any age.
"""

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.intake.acts import ORGANIC
from recloop.intake.feedback import AHEAD, identity, judge
from recloop.intake.profiles import kept, require_welcome
from recloop.intake.reasons import Unfit, unfit
from recloop.intake.rows import filled, parsed
from recloop.intake.source import OWN, ROWS_AT_ONCE, Batch, DatasetError, Made, TableReport
from recloop.intake.times import micros
from recloop.schema import Arrival, Event, Failure, Impression, User, now_us
from recloop.store import Refused

Record = Event | Impression | User
IMPORTED = "imported"  # the policy of an impression that names none


class Table:
    """One file; a ``Source``. What a subclass says is which columns each row needs, and what a row is.

    Raises:
        DatasetError: it cannot be read, is of no known kind, or lacks a column.
    """

    name = OWN
    table: ClassVar[str]
    needed: ClassVar[tuple[str, ...]]

    def __init__(self, path: Path) -> None:
        self.path, self._report = path, TableReport(0, 0, 0)
        columns, self.size = shape(path)
        if columns is not None and (missing := [name for name in self.needed if name not in columns]):
            found = ", ".join(columns[:12]) or "nothing"
            raise DatasetError(f"{path} has no column {', '.join(missing)}; its columns are {found}")

    def tables(self) -> Mapping[str, TableReport]:
        """Rows read, kept and quarantined."""
        return {self.table: self._report}

    def batches(self) -> Iterator[Batch]:
        """The rows in the order of the file."""
        self._report = TableReport(0, 0, 0)
        rows = KINDS[self.path.suffix][1](self.path)
        while part := list(islice(rows, ROWS_AT_ONCE)):
            judged = self.judged(part, now_us())
            refused = [row for row in judged if isinstance(row, Refused)]
            self._report.read += len(judged)
            self._report.kept += len(judged) - len(refused)
            self._report.quarantined += len(refused)
            for row in refused:
                self._report.reasons[row.reason] = self._report.reasons.get(row.reason, 0) + 1
            yield self.batch([row for row in judged if not isinstance(row, Refused)], refused)

    def batch(self, kept: list[Any], refused: list[Refused]) -> Batch:
        """What goes to the store together."""
        rows: dict[str, Any] = {self.table: kept}
        return Batch(**rows, refused=refused)

    def judged(self, rows: Sequence[object], now: int) -> list[Record | Refused]:
        """Per row the record, or why it is none; ``now`` in µs since 1970."""
        judged: list[Record | Refused] = []
        for body in rows:
            try:
                if not isinstance(body, dict):
                    raise Unfit(f"a row is a JSON object, not {type(body).__name__}")
                judged.append(self.record(_said(body), now))
            except ValueError as error:
                why = unfit(error)
                judged.append(Refused(self.name, self.table[:-1], str(why), self.kept(body), why.failure))
        return judged

    def record(self, said: dict, now: int) -> Record:
        """The record of one row.

        Raises:
            ValueError: it is none.
        """
        raise NotImplementedError

    def kept(self, body: object) -> object:
        """What the quarantine keeps of a refused row."""
        return body


class EventTable(Table):
    """Acts as ``/events`` takes them; one without an ``event_id`` has that of its content."""

    table = "events"
    needed = ("user_id", "item_id", "kind", "ts")
    _made: dict[str, Made]  # of the rows that are judged now

    def judged(self, rows: Sequence[object], now: int) -> list[Record | Refused]:
        """As ``/events`` does, but of any age."""
        self._made = {}
        return list(judge([self._act(row) for row in rows], now, self.name, oldest=now))

    def batch(self, kept: list[Any], refused: list[Refused]) -> Batch:
        """The acts, and of which content their ids are."""
        return Batch(events=kept, refused=refused, made=self._made)

    def _act(self, row: object) -> object:
        """A row as ``judge`` takes it; without a time it is left as it is, to be refused."""
        if not isinstance(row, dict):
            return row
        if "ts" not in row:
            return row | {"ts": ""}
        said = _said(row)
        if "event_id" in said:
            return said
        name = identity(said)
        self._made[name] = partial(identity, said)
        return {"event_id": name} | said


class OrganicTable(EventTable):
    """Acts where nothing was noted of what was shown: each that names no request is an impression too.

    A person met the item by themselves; no policy chose it, so that there is no propensity.
    """

    def batch(self, kept: list[Any], refused: list[Refused]) -> Batch:
        """The acts, and an impression of each that has none."""
        shown: list[Impression] = []
        acts: list[Event] = []
        for act in kept:
            if act.request_id is None:
                act = act.model_copy(update={"request_id": _meeting(act.event_id)})
                shown.append(_met(act))
                if make := self._made.get(act.event_id):
                    self._made[act.request_id] = partial(_meeting_of, make)
            acts.append(act)
        return Batch(impressions=shown, events=acts, refused=refused, made=self._made)


class ImpressionTable(Table):
    """What was shown: in each row an item at a position, from 0 on, of the slate that a request got.

    An empty ``propensity`` is not known; off-policy estimates refuse to answer where too many are not.
    """

    table = "impressions"
    needed = ("request_id", "position", "user_id", "item_id", "ts")

    def record(self, said: dict, now: int) -> Impression:
        """One row."""
        shown = Impression.model_validate({"propensity": None, "policy": IMPORTED} | said)
        _past(shown.ts, now)
        if "\0" in shown.policy + shown.slot:
            raise Unfit("policy, slot: a NUL, which no text holds")
        return shown


class PersonTable(Table):
    """People; what a row does not name stays as it is. Other facts are in ``attributes``, a JSON object."""

    table = "users"
    needed = ("user_id",)

    def record(self, said: dict, now: int) -> User:
        """One row; contact data is no part of a profile."""
        user = User.model_validate({"created_at": now} | said)
        for name, value in {**user.attributes, "region": user.region}.items():
            require_welcome(name, name, value)
        _past(user.created_at, now)
        return user

    def kept(self, body: object) -> object:
        """The row without contact data, exact places, and fields that nobody knows."""
        return kept(body, Failure.SCHEMA, User)


def _meeting(event_id: str) -> str:
    """The request of an act that names none."""
    return f"o{hashlib.sha256(event_id.encode()).hexdigest()[:24]}"


def _meeting_of(make: Made, user_id: str) -> str:
    return _meeting(make(user_id))


def _met(act: Arrival) -> Impression:
    return Impression(
        request_id=act.request_id or "",
        position=0,
        user_id=act.user_id,
        item_id=act.item_id,
        propensity=None,
        policy=ORGANIC,
        traffic=act.traffic,
        ts=act.ts,
    )


def _past(ts: int, now: int) -> None:
    if ts > now + AHEAD:
        raise Unfit(f"ts: {(ts - now) / 1e6:.0f} s ahead of this machine's clock", Failure.RANGE)


def _said(row: dict) -> dict:
    return {name: micros(value) if name in ("ts", "created_at") else value for name, value in row.items()}


def shape(path: Path) -> tuple[list[str] | None, int]:
    """The columns, None where each row has its own; and the number of rows, about.

    Raises:
        DatasetError: it cannot be read, or is of no known kind.
    """
    if path.suffix not in KINDS:
        raise DatasetError(f"{path} is none of {', '.join(KINDS)}: name it by what it holds")
    try:
        return KINDS[path.suffix][0](path)
    except (OSError, pa.ArrowInvalid, UnicodeDecodeError, csv.Error) as error:
        why = f"cannot read {path}: {error}; is it whole, of the kind that it is named, and in UTF-8?"
        raise DatasetError(why) from error


def _csv_shape(path: Path) -> tuple[list[str], int]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        columns = next(csv.reader(file), [])
        return columns, sum(1 for _ in file)


def _csv_rows(path: Path) -> Iterator[object]:
    """A row with too many fields is refused for the name that these get; a short one lacks the last."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file, restkey="fields without a column")
        try:
            yield from map(filled, rows)
        except csv.Error as error:
            raise DatasetError(
                f"{path}, line {rows.line_num}: {error}; is a quotation mark left open there? Repair it and"
                " import it again, which adds only what is missing"
            ) from error


def _jsonl_shape(path: Path) -> tuple[None, int]:
    with path.open("rb") as file:
        return None, sum(1 for _ in file)


def _jsonl_rows(path: Path) -> Iterator[object]:
    with path.open("rb") as file:
        for line in file:
            if line.strip():
                row = parsed(line)
                yield filled(row) if isinstance(row, dict) else row


def _parquet_shape(path: Path) -> tuple[list[str], int]:
    with pq.ParquetFile(path) as file:
        return file.schema_arrow.names, file.metadata.num_rows


def _parquet_rows(path: Path) -> Iterator[object]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE):
            yield from map(filled, batch.to_pylist())


Shape = Callable[[Path], tuple[list[str] | None, int]]
KINDS: dict[str, tuple[Shape, Callable[[Path], Iterator[object]]]] = {
    ".csv": (_csv_shape, _csv_rows),
    ".parquet": (_parquet_shape, _parquet_rows),
    ".jsonl": (_jsonl_shape, _jsonl_rows),
}

"""What a source of data is, and how one is written to the store."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection, Engine, func, select
from tqdm import tqdm

from recloop.schema import Event, Impression, Item, User
from recloop.store import Refused, Rows, add_items, add_users, recall, remember
from recloop.store.cursors import move_cursor
from recloop.store.engine import in_transaction
from recloop.store.log import write_all
from recloop.store.quarantine import text_of
from recloop.store.tables import events, impressions, items, quarantine, users

TABLES = (users, items, impressions, events)
ROWS_AT_ONCE = 20_000


class DatasetError(ValueError):
    """A dataset cannot be read: says what was looked for, where, and what to do."""


class SourceConflict(RuntimeError):
    """The store already holds the data of another source."""


@dataclass
class TableReport:
    """What became of the rows of one table of a dataset; ``reasons`` counts the refused ones."""

    read: int
    kept: int
    quarantined: int
    reasons: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, read: int, refused: Sequence[Refused]) -> "TableReport":
        """The report of a table of which ``read`` rows were seen and these refused."""
        reasons = dict(Counter(row.reason for row in refused).most_common())
        return cls(read, read - len(refused), len(refused), reasons)


@dataclass(frozen=True)
class Batch:
    """Records that go to the store together; people and items come before what refers to them.

    ``place``: how far a source with a ``cursor`` has been read with this batch, as JSON; None: it has none.
    """

    users: Sequence[User] = ()
    items: Sequence[Item] = ()
    impressions: Sequence[Impression] = ()
    events: Sequence[Event] = ()
    refused: Sequence[Refused] = ()
    place: Any = None

    def __len__(self) -> int:
        return sum(map(len, (self.users, self.items, self.impressions, self.events)))


class Source(Protocol):
    """Something that has been found readable and now yields records.

    A source that goes on has a ``cursor`` too: the name under which its batches' ``place`` is saved.

    Attributes:
        name: the store's fact ``source``.
    """

    name: str

    @property
    def size(self) -> int | None:
        """How many records ``batches`` will yield, for a progress bar; None where nobody knows."""

    def batches(self) -> Iterator[Batch]:
        """The records, and the rows that were refused, in the order in which they are to be written."""

    def tables(self) -> Mapping[str, TableReport]:
        """Per table of the dataset, what was read; complete once ``batches`` is exhausted."""


@dataclass
class ImportReport:
    """What an import read and what was new.

    Attributes:
        tables: per table of the dataset: rows read, kept, quarantined, reasons with counts.
        added: per table of the store: rows that were not there before.
    """

    source: str
    tables: dict[str, TableReport]
    added: dict[str, int]

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [
            f"{self.source} {name}: {table.read:,} rows read, {table.kept:,} kept,"
            f" {table.quarantined:,} quarantined"
            + "".join(f"\n  {count:,} × {reason}" for reason, count in table.reasons.items())
            for name, table in self.tables.items()
        ]
        new = ", ".join(f"{count:,} {name}" for name, count in self.added.items() if count)
        lines.append(f"added: {new}" if new else "nothing was new: this dataset is in the store already")
        return "\n".join(lines)


def import_into(engine: Engine, source: Source, progress: bool = True) -> ImportReport:
    """Write a source to the store; importing it again adds nothing, an interrupted import goes on.

    Raises:
        SourceConflict: the store holds the data of another source.
    """
    claim(engine, source.name)
    before = _counts(engine)
    known = _known_refusals(engine, source.name)
    with tqdm(
        total=source.size, desc=f"import {source.name}", unit="rows", mininterval=1, disable=not progress
    ) as bar:
        for batch in source.batches():
            add_users(engine, batch.users)
            add_items(engine, batch.items)
            refused = [row for row in batch.refused if (row.kind, text_of(row.body)) not in known]
            rows = Rows(batch.impressions, batch.events, refused, source=source.name)
            _write(engine, rows, source, batch.place)
            bar.update(len(batch))
    after = _counts(engine)
    return ImportReport(
        source.name, dict(source.tables()), {name: after[name] - before[name] for name in after}
    )


def _write(engine: Engine, rows: Rows, source: Source, place: Any) -> None:
    def write(connection: Connection) -> None:
        write_all(connection, [rows])
        if place is not None:
            move_cursor(connection, getattr(source, "cursor", source.name), place)

    in_transaction(engine, write)


def claim(engine: Engine, name: str) -> None:
    """Note that the store is for this source.

    Raises:
        SourceConflict: it holds another one's data.
    """
    held = recall(engine, "source") or ("own" if any(_counts(engine).values()) else name)
    if held != name:
        raise SourceConflict(
            f"the store holds data of the source {held!r}, so {name!r} cannot be added to it:"
            " set RECLOOP_HOME to another folder, for example RECLOOP_HOME=var-" + name
        )
    with engine.begin() as connection:
        remember(connection, "source", name)


def _counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {t.name: connection.execute(select(func.count()).select_from(t)).scalar_one() for t in TABLES}


def _known_refusals(engine: Engine, name: str) -> set[tuple[str, str]]:
    query = select(quarantine.c.kind, quarantine.c.body).where(quarantine.c.source == name)
    with engine.connect() as connection:
        return {(row.kind, row.body) for row in connection.execute(query)}

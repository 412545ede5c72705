"""What a source of data is, and how one is written to the store."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection, Engine, func, select
from tqdm import tqdm

from recloop.schema import Event, Impression, Item, User
from recloop.store import Refused, Rows, add_items, add_users, recall, remember
from recloop.store.consent import Terms, admitted
from recloop.store.cursors import move_cursor
from recloop.store.engine import in_transaction
from recloop.store.log import CHUNK, write_all
from recloop.store.profiles import Change, change_profiles
from recloop.store.quarantine import person_in, under
from recloop.store.repeats import find_acts
from recloop.store.tables import events, impressions, items, users

Row = TypeVar("Row", User, Impression, Event)
Made = Callable[[str], str]  # an id that is made from content, where its person has this name
OWN = "own"  # the name of sources of one's own people
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

    Attributes:
        place: how far a source with a ``cursor`` has been read with this batch, as JSON; None: it has none.
        made: of ids of events and requests that were made from a row's content, how: where the row names an
            account, it is made again of the pseudonym.
    """

    users: Sequence[User] = ()
    items: Sequence[Item] = ()
    impressions: Sequence[Impression] = ()
    events: Sequence[Event] = ()
    refused: Sequence[Refused] = ()
    place: Any = None
    made: Mapping[str, Made] = field(default_factory=dict)

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
        unconsented: rows of people who do not agree to ``service``; they are kept nowhere.
    """

    source: str
    tables: dict[str, TableReport]
    added: dict[str, int]
    unconsented: int = 0

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
        if self.unconsented:
            lines.append(f"{self.unconsented:,} rows are of people who do not agree that they are stored")
        return "\n".join(lines)


def import_into(
    engine: Engine,
    source: Source,
    progress: bool = True,
    terms: Terms | None = None,
    name: Callable[[str], str | None] = str,
) -> ImportReport:
    """Write a source to the store; importing it again adds nothing, an interrupted import goes on.

    Of one's own people only rows of those are written who agree to ``service``; in a published dataset nobody
    is there to be asked.

    Args:
        terms: the version of the terms that holds, by purpose; 1 where there are none.
        name: as ``store.consent.admitted`` has it.

    Raises:
        SourceConflict: the store holds the data of another source.
    """
    claim(engine, source.name)
    before = _counts(engine)
    unconsented = 0
    with tqdm(
        total=source.size, desc=f"import {source.name}", unit="rows", mininterval=1, disable=not progress
    ) as bar:
        for batch in source.batches():
            bar.update(len(batch))
            if source.name == OWN:
                batch, left_out = _admitted(engine, batch, terms or {}, name)
                unconsented += left_out
                change_profiles(engine, [_change(user) for user in batch.users])
            else:
                add_users(engine, batch.users)
            add_items(engine, batch.items)
            rows = Rows(batch.impressions, batch.events, batch.refused, source=source.name)
            _write(engine, rows, source, batch.place)
    after = _counts(engine)
    added = {table: after[table] - before[table] for table in after}
    return ImportReport(source.name, dict(source.tables()), added, unconsented)


def _change(user: User) -> Change:
    said = user.model_fields_set - {"user_id", "attributes", "created_at"}
    return Change(user.user_id, user.model_dump(include=said), user.attributes, user.created_at)


def renamed(rows: Iterable[Row], names: Mapping[str, str], made: Mapping[str, Made]) -> list[Row]:
    """Those of the rows whose people have a name, under it, with their ids as ``Batch`` has ``made``."""
    return [_under(row, names[row.user_id], made) for row in rows if row.user_id in names]


def _under(row: Row, name: str, made: Mapping[str, Made]) -> Row:
    if name == row.user_id:
        return row
    anew = {
        one: make(name)
        for one in ("event_id", "request_id")
        if (make := made.get(getattr(row, one, None) or ""))
    }
    return row.model_copy(update={"user_id": name} | anew)


def _refused_under(row: Refused, name: str, made: Mapping[str, Made]) -> Refused:
    row = under(row, name)
    assert isinstance(row.body, dict)
    make = made.get(str(row.body.get("event_id")))
    return row if make is None else replace(row, body=row.body | {"event_id": make(name)})


def to_remake(connection: Connection, made: Mapping[str, Made], names: Mapping[str, str]) -> dict[str, Made]:
    """Of the ids that were ``made`` those that are to be made again, if anybody has another name.

    What came when ids were made of accounts keeps its own, so that importing that file again adds nothing.
    """
    if all(name == given for given, name in names.items()):
        return {}
    ids, known = list(made), set()
    for start in range(0, len(ids), CHUNK):
        for name, act in find_acts(connection, ids[start : start + CHUNK]).items():
            known |= {name, act.request_id}
    return {one: make for one, make in made.items() if one not in known}


def _admitted(
    engine: Engine, batch: Batch, terms: Terms, name: Callable[[str], str | None]
) -> tuple[Batch, int]:
    """The batch without the rows of people who do not agree, and how many these are."""
    whose = [person_in(row) for row in batch.refused]
    people = {row.user_id for rows in (batch.users, batch.impressions, batch.events) for row in rows}
    with engine.connect() as connection:
        names = admitted(connection, people | {one for one in whose if one}, terms, name)
        made = to_remake(connection, batch.made, names)
    refused = [
        row if who is None or who == names[who] else _refused_under(row, names[who], made)
        for row, who in zip(batch.refused, whose, strict=True)
        if who is None or who in names
    ]
    kept = replace(
        batch,
        users=renamed(batch.users, names, made),
        impressions=renamed(batch.impressions, names, made),
        events=renamed(batch.events, names, made),
        refused=refused,
    )
    return kept, len(batch) - len(kept) + len(batch.refused) - len(refused)


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

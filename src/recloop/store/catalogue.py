"""The item database: what is offered now; each change is also kept as a version (``store.item_history``)."""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    RowMapping,
    Table,
    delete,
    func,
    select,
    text,
    true,
    update,
)

from recloop.schema import Item, now_us
from recloop.store.engine import in_transaction, insert_or_ignore, take_turn, upsert
from recloop.store.tables import item_versions, item_words, items
from recloop.store.words import words_in

CHUNK = 5000
CACHE = 131_072  # KiB that SQLite keeps of the index while many items come
FIELDS = tuple(Item.model_fields)
COLUMNS = [*FIELDS, "removed"]
VALUES = itemgetter(*COLUMNS)
LOG = (
    60_000  # pages of 4 KiB that wait in SQLite's log meanwhile: one that many batches change is copied once
)
SEARCHED = ("title", "category", "attributes", "text")


@dataclass(frozen=True)
class Put:
    """What became of items that were put: how many were new, different from before, and the same."""

    new: int = 0
    changed: int = 0
    same: int = 0

    def __add__(self, other: "Put") -> "Put":
        return Put(self.new + other.new, self.changed + other.changed, self.same + other.same)


def add_items(engine: Engine, offers: Iterable[Item], ts: int | None = None, born: int = 0) -> Put:
    """Insert or replace items in one transaction; of one that comes twice the last holds.

    A change holds from ``ts`` (µs since 1970, UTC; now by default), or from just after the item's newest
    version where that is later. A new item holds from its ``created_at``, if that is earlier. An item that
    does not say when it was created keeps what the store has; a new one gets ``born``.
    """

    def put(connection: Connection) -> Put:
        _alone(connection)
        if len(all_of_them) > CHUNK and connection.dialect.name == "sqlite":
            connection.exec_driver_sql(f"PRAGMA cache_size={-CACHE}")
            connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint={LOG}")
        done, moment = Put(), now_us() if ts is None else ts
        wordless: list[dict] = []
        for part in _chunks({offer.item_id: offer for offer in all_of_them}.values()):
            done += _put(connection, part, moment, born, wordless)
        index_words(connection, wordless)
        return done

    all_of_them = list(offers)
    return in_transaction(engine, put) if all_of_them else Put()


def remove_items(engine: Engine, item_ids: Iterable[str], ts: int | None = None) -> int:
    """Take items out of the catalogue from ``ts`` (µs; now by default) on; how many were there.

    Their rows stay, unavailable, since the log and policies that serve refer to them.
    """

    def remove(connection: Connection) -> int:
        _alone(connection)
        count, moment = 0, now_us() if ts is None else ts
        for part in _chunks(sorted(set(item_ids))):
            there = [row for row in _present(connection, part).values() if not row["removed"]]
            gone = [dict(row) | {"removed": True, "available": False} for row in there]
            ids = [row["item_id"] for row in gone]
            connection.execute(
                update(items).where(items.c.item_id.in_(ids)).values(removed=True, available=False)
            )
            _note(connection, gone, {row["item_id"] for row in there}, moment)
            connection.execute(delete(item_words).where(item_words.c.item_id.in_(ids)))
            count += len(gone)
        return count

    item_ids = list(item_ids)
    return in_transaction(engine, remove)


def find_items(engine: Engine, item_ids: Iterable[str] | None = None) -> list[Item]:
    """Items by id (unknown and removed ids are left out), or all of them, in the order of their ids."""
    query = select(items).where(~items.c.removed).order_by(items.c.item_id)
    with engine.connect() as connection:
        queries = [query.where(some) for some in among(items.c.item_id, item_ids)]
        return [item_of(row) for one in queries for row in connection.execute(one).mappings()]


def among(column: ColumnElement[str], ids: Iterable[str] | None) -> list[ColumnElement[bool]]:
    """Conditions that the column is one of the ids, so many at once as an engine takes, in their order."""
    if ids is None:
        return [true()]
    return [column.in_(part) for part in _chunks(sorted(set(ids)))]


def item_of(row: RowMapping | Mapping) -> Item:
    """A row of ``items`` or ``item_versions`` as a record."""
    found = {name: row[name] for name in Item.model_fields}
    return Item.model_construct(**found | {"attributes": json.loads(found["attributes"])})


def text_of(row: RowMapping | Mapping) -> str:
    """What the search looks at: title, category, text, and attributes that are words."""
    values = json.loads(row["attributes"]).values() if row["attributes"] != "{}" else ()
    words = [value for value in values if isinstance(value, str)]
    return " ".join([row["title"], row["category"], row["text"] or "", *words])


def index_words(connection: Connection, rows: Iterable[RowMapping | Mapping]) -> None:
    """Add the words of items that have none yet, in their order in the index: each page is gone to once."""
    having: dict[str, list[str]] = {}
    for row in sorted(rows, key=itemgetter("item_id")):
        for word in words_in(text_of(row)):
            having.setdefault(word, []).append(row["item_id"])
    pairs = [(word, item_id) for word in sorted(having) for item_id in having[word]]
    _insert(connection, item_words, ["word", "item_id"], pairs)


def _put(connection: Connection, offers: Collection[Item], ts: int, born: int, wordless: list[dict]) -> Put:
    """Put items; those whose words are to be added afterwards go to ``wordless``."""
    before = _present(connection, [offer.item_id for offer in offers])
    changed = []
    for offer in offers:
        old, row = before.get(offer.item_id), _row(offer)
        if "created_at" not in offer.model_fields_set:
            row["created_at"] = old["created_at"] if old else born
        if old is None or dict(old) != row:
            changed.append(row)
    known = {row["item_id"] for row in changed} & set(before)
    new = [VALUES(row) for row in changed if row["item_id"] not in known]
    _insert(connection, items, COLUMNS, new)
    upsert(connection, items, [row for row in changed if row["item_id"] in known])
    _note(connection, changed, known, ts)
    other = [row for row in changed if _searched(row) != _searched(before.get(row["item_id"]))]
    old_ids = [row["item_id"] for row in other if row["item_id"] in known]
    if old_ids:
        connection.execute(delete(item_words).where(item_words.c.item_id.in_(old_ids)))
    wordless += other
    return Put(len(changed) - len(known), len(known), len(offers) - len(changed))


def _row(offer: Item) -> dict:
    row = {name: getattr(offer, name) for name in FIELDS}
    attributes = json.dumps(offer.attributes, sort_keys=True) if offer.attributes else "{}"
    return row | {"attributes": attributes, "removed": False}


def _searched(row: RowMapping | Mapping | None) -> tuple | None:
    return None if row is None or row["removed"] else tuple(row[name] for name in SEARCHED)


def _note(connection: Connection, rows: list[dict], known: set[str], ts: int) -> None:
    """Append versions; those of an item are in the order of time."""
    newest = select(item_versions.c.item_id, func.max(item_versions.c.ts)).group_by(item_versions.c.item_id)
    last: dict[str, int] = {}
    if known:
        query = newest.where(item_versions.c.item_id.in_(known))
        last = dict(connection.execute(query).tuples().all())
    names = [*COLUMNS, "ts"]
    made = [
        (*VALUES(row), max(ts, last.get(row["item_id"], -1) + 1))
        if row["item_id"] in known
        else (*VALUES(row), min(ts, row["created_at"]))
        for row in rows
    ]
    _insert(connection, item_versions, names, made)


def _present(connection: Connection, item_ids: Collection[str]) -> dict[str, RowMapping]:
    query = select(items).where(items.c.item_id.in_(item_ids))
    return {row["item_id"]: row for row in connection.execute(query).mappings()}


def _alone(connection: Connection) -> None:
    """One changes the catalogue at a time, so that versions are in the order of the changes."""
    take_turn(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(text("LOCK TABLE items IN SHARE ROW EXCLUSIVE MODE"))


def _insert(connection: Connection, table: Table, names: list[str], rows: list[tuple]) -> None:
    """Insert many rows: to SQLite by its driver, which takes a third of the time, to PostgreSQL as arrays."""
    if not rows:
        return
    if connection.dialect.name == "postgresql":
        insert_or_ignore(connection, table, [dict(zip(names, row, strict=True)) for row in rows])
        return
    marks = ", ".join("?" * len(names))
    connection.exec_driver_sql(f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({marks})", rows)


def _chunks(offers: Iterable) -> Iterator[list]:
    left = iter(offers)
    while part := list(islice(left, CHUNK)):
        yield part

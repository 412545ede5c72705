"""A person who is named in somebody else's rows of a database: the name is taken out, the rows stay.

What comes from outside is mended (``COLUMNS``). Elsewhere, as in an item's id, a name is only found, since
what recloop works with would not go together any more. Everything is chosen by SQL, so that no row which
names nobody is read.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from sqlalchemy import Column, ColumnElement, Engine, MetaData, String, Table, inspect, or_, select

from recloop.store.compact import compact
from recloop.store.names import LONG, blotted, blotted_json, forms, mentions, named, telling

COLUMNS = {
    "events": ("extra", "event_id", "request_id"),
    "impressions": ("device", "request_id"),
    "users": ("region", "attributes"),
    "items": ("title", "attributes", "text", "image"),
    "item_versions": ("title", "attributes", "text", "image"),
}
REASONS = "why"  # what an operator noted, in any table
OBJECTS = "extra", "attributes"  # in JSON
IDS = "event_id", "request_id"  # unique, and they refer to one another: another id takes their place
FREE = "extra"  # nothing reads it: there a name of any kind is taken out
PEOPLE = "user_id", "account"  # in these a row is the person's own
SPOKEN = (*PEOPLE, FREE, "reason", "body", "repaired")  # where also a name that is an everyday word is one
ESCAPED = r"\\u00"  # a letter, as JSON within JSON may write it
AT_ONCE = 500  # rows of one transaction


class Place(NamedTuple):
    """A column of a table in which somebody is named."""

    table: str
    column: str


def forget_mentions(engine: Engine, names: Sequence[str]) -> int:
    """Take the names out of the rows of others; how many values were changed.

    Rows are read without holding up who writes, and each is changed only if it is still what was read.
    """
    fresh: dict[str, str] = {}
    total = 0
    for table in _tables(engine):
        columns = [table.c[name] for name in (*COLUMNS.get(table.name, ()), REASONS) if name in table.c]
        total += _forget(engine, table, columns, names, fresh)
    if total:
        compact(engine)
    return total


def mentioned(engine: Engine, names: Sequence[str], own: bool = True) -> list[Place]:
    """Where one of the names stands in a database; without ``own`` in rows of others alone."""
    found = []
    for table in _tables(engine):
        texts = [column for column in table.columns if isinstance(column.type, String)]
        found += [Place(table.name, text.name) for text in texts if _named_in(engine, text, names, own)]
    return found


def _tables(engine: Engine) -> list[Table]:
    with engine.connect() as connection:
        return [
            Table(name, MetaData(), autoload_with=connection)
            for name in inspect(connection).get_table_names()
        ]


def meant(column: str, names: Sequence[str]) -> list[str]:
    """Those of the names that mean the person in such a column."""
    return [name for name in names if column in SPOKEN or telling(name)]


def _named_in(engine: Engine, column: Column, names: Sequence[str], own: bool) -> bool:
    given, names = names, meant(column.name, names)
    if column.name in PEOPLE:
        query = select(column).where(column.in_(given))
        if not own:  # what is longer than the name and holds it
            names = [name for name in given if len(name) >= LONG]
            query = select(column).where(_maybe(column, names), column.not_in(given))
    else:
        query = select(column).where(_maybe(column, names))
    if not names:
        return False
    with engine.connect() as connection:
        rows = connection.execute(query.execution_options(yield_per=AT_ONCE)).scalars()
        return any(named(text.encode(), names) for text in rows)


def _maybe(column: Column, names: Sequence[str]) -> ColumnElement:
    """What SQL can say of it."""
    signs = dict.fromkeys(form for name in names for form in forms(name))
    if column.name in OBJECTS:
        signs |= {ESCAPED: None}
    return column.is_not(None) & or_(*[column.contains(sign, autoescape=True) for sign in signs])


def _forget(
    engine: Engine, table: Table, columns: Sequence[Column], names: Sequence[str], fresh: dict[str, str]
) -> int:
    meaning = {column: found for column in columns if (found := meant(column.name, names))}
    if not meaning:
        return 0
    keys, total = list(table.primary_key), 0
    for rows in _read(engine, [*keys, *meaning], or_(*[_maybe(c, found) for c, found in meaning.items()])):
        with engine.begin() as connection:
            for row in rows:
                here = [key == value for key, value in zip(keys, row, strict=False)]
                for column, old in zip(meaning, row[len(keys) :], strict=True):
                    new = _clean(column.name, old, meaning[column], fresh)
                    if new != old:
                        change = table.update().where(*here, column == old).values({column: new})
                        total += connection.execute(change).rowcount
    return total


def _read(engine: Engine, columns: Sequence[Column], maybe: ColumnElement) -> Iterator[Sequence]:
    """Rows by rows, all read before the first is changed: SQLite's readers of an older state hold its log."""
    query = select(*columns).where(maybe).execution_options(yield_per=AT_ONCE)
    with engine.connect() as connection:
        rows = [tuple(row) for row in connection.execute(query)]
    for start in range(0, len(rows), AT_ONCE):
        yield rows[start : start + AT_ONCE]


def _clean(column: str, text: str | None, names: Sequence[str], fresh: dict[str, str]) -> str | None:
    if text is None or not mentions(text, names):
        return text
    if column in IDS:
        return fresh.setdefault(text, f"erased-{secrets.token_hex(8)}")
    return (blotted_json if column in OBJECTS else blotted)(text, names)

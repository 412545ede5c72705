"""One engine for SQLite and PostgreSQL; SQLite in WAL mode with full synchronisation."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DatabaseError

from recloop.store.tables import facts, metadata

SCHEMA_VERSION = "1"


class StoreError(RuntimeError):
    """The store cannot be opened or used; the message says what to do."""


def open_store(url: str) -> Engine:
    """Open the store at a SQLAlchemy URL and make its tables where they are missing.

    Raises:
        StoreError: the place cannot be written, the file is no database, or it was made by
            another version of the schema.
    """
    parsed = make_url(url)
    is_sqlite = parsed.get_backend_name() == "sqlite"
    try:
        if is_sqlite and parsed.database and parsed.database != ":memory:":
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url)
        if is_sqlite:
            event.listen(engine, "connect", _durable)
        metadata.create_all(engine)
        with engine.begin() as connection:
            version = remember(connection, "schema", SCHEMA_VERSION)
    except (DatabaseError, OSError) as error:
        raise StoreError(
            f"cannot open the store at {parsed.render_as_string(hide_password=True)}: {error}."
            " Check that the folder can be written, that the disk is not full and that the file is a database"
        ) from error
    if version != SCHEMA_VERSION:
        raise StoreError(f"the store has schema {version}, this program needs {SCHEMA_VERSION}")
    return engine


def fault_of(error: Exception) -> str:
    """What a log may say of an error of the store: its type and code, since its text quotes rows."""
    if isinstance(error, StoreError):
        return str(error)
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
    return f"{type(error).__name__} {code}".strip()


def _durable(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA busy_timeout=15000")


def take_turn(connection: Connection) -> None:
    """Wait for SQLite's write lock at the transaction's beginning; PostgreSQL locks rows, when they come."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def insert_or_ignore(connection: Connection, table: Table, rows: list[dict]) -> int:
    """Insert rows, leaving out those whose unique key is there already; returns how many went in."""
    if not rows:
        return 0
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    return connection.execute(dialect.insert(table).on_conflict_do_nothing(), rows).rowcount


def upsert(connection: Connection, table: Table, rows: list[dict]) -> None:
    """Insert rows, replacing those whose primary key is there already."""
    if not rows:
        return
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    statement = dialect.insert(table)
    keys = [column.name for column in table.primary_key]
    others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=keys, set_=others), rows)


def remember(connection: Connection, name: str, value: str) -> str:
    """Note a fact unless it is known; returns the value that holds. One that is known is only read."""
    query = select(facts.c.value).where(facts.c.name == name)
    if (found := connection.execute(query).scalar_one_or_none()) is not None:
        return found
    insert_or_ignore(connection, facts, [{"name": name, "value": value}])
    return connection.execute(query).scalar_one()


def recall(engine: Engine, name: str) -> str | None:
    """The value of a noted fact, or None."""
    with engine.connect() as connection:
        return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()

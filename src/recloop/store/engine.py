"""One engine for SQLite and PostgreSQL: SQLite in WAL mode with full synchronisation, PostgreSQL by psycopg.

Both run at their default isolation, SQLite's one writer and PostgreSQL's READ COMMITTED: what must not be
lost to a race is a compare-and-set or a unique key, which hold on both.
"""

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from select import POLLIN, poll
from typing import TypeVar

from sqlalchemy import (
    URL,
    Column,
    Connection,
    Engine,
    Insert,
    LargeBinary,
    String,
    Table,
    Text,
    bindparam,
    cast,
    create_engine,
    event,
    func,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    InvalidatePoolError,
    NoSuchModuleError,
    OperationalError,
)

from recloop.store import versions
from recloop.store.errors import StoreError
from recloop.store.tables import facts

T = TypeVar("T")
# A client that hangs within a transaction loses it, and with it the rows that it holds up.
OPTIONS = "-c idle_in_transaction_session_timeout=60s"
BROKEN = {"40P01", "40001"}  # a deadlock that the server broke; a serialisation that failed
ATTEMPTS = 5
MANY = 16  # rows, from which on one text for each column is faster than values
SEPARATOR, NULL = "\x1f", "\x1e"  # in such a text
BUSY_SECONDS = 15  # that SQLite waits for another who writes
LOG_PAGES = 4000  # of SQLite's log, 16 MB, before they go to the file: a page of many acts goes once


def open_store(url: str) -> Engine:
    """Open the store at a SQLAlchemy URL; an empty database gets its tables.

    Raises:
        StoreError: the URL is none, the server does not answer, the place cannot be written, the file is no
            database, or it has another version than this program; the message says what to do.
    """
    engine, version = _look(url)
    if version is None:
        upgrade(engine)
    else:
        versions.require(version)
    return engine


def upgrade_store(url: str) -> tuple[str | None, str]:
    """Bring a store to this program's version, all or nothing; the versions before and after.

    Raises:
        StoreError: as ``open_store``, or the store is newer than this program.
    """
    engine, before = _look(url)
    if before is not None:
        versions.refuse_newer(before)
    upgrade(engine)
    engine.dispose()
    return before, versions.HEAD


def upgrade(engine: Engine) -> None:
    """Apply the migrations that are missing."""
    try:
        versions.upgrade(engine)
    except (DatabaseError, OSError) as error:
        raise StoreError(_cannot("upgrade", engine.url, error)) from error


def connect_to(url: str) -> Engine:
    """An engine with the settings that both kinds of database need; a SQLite file gets its folder."""
    parsed = make_url(url)
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ArgumentError(f"{parsed.get_backend_name()} is no store of recloop's")
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(parsed, **_client(parsed))
        event.listen(engine, "checkout", partial(_notice_its_end, engine))
        return engine
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(parsed)
    event.listen(engine, "connect", _durable)
    return engine


def _look(url: str) -> tuple[Engine, str | None]:
    """The engine and the version of what is there."""
    try:
        engine = connect_to(url)
        return engine, versions.read(engine)
    except (ArgumentError, NoSuchModuleError) as error:
        raise StoreError(
            f"RECLOOP_STORE_URL names no database: {error}. It is sqlite:////path/to/store.db or"
            " postgresql://user:password@host/name"
        ) from error
    except (DatabaseError, OSError) as error:
        raise StoreError(_cannot("open", make_url(url), error)) from error


def _client(url: URL) -> dict:
    """The URL's own options hold."""
    given = {"connect_timeout": 5, "application_name": "recloop", "options": OPTIONS}
    return {"connect_args": {name: value for name, value in given.items() if name not in url.query}}


def _notice_its_end(engine: Engine, connection: DBAPIConnection, *_: object) -> None:
    """A server that has closed a connection is noticed before it is used again.

    An idle connection from which something can be read is asked whether it lives; nothing to read costs no
    round trip, which a ping before each use would.
    """
    if not connection.closed:
        socket = poll()
        socket.register(connection.fileno(), POLLIN)
        if not socket.poll(0):
            return
        with suppress(engine.dialect.loaded_dbapi.Error):
            engine.dialect.do_ping(connection)
            return
    raise InvalidatePoolError


def _cannot(what: str, url: URL, error: Exception) -> str:
    remedy = (
        "Check that the folder can be written, that the disk is not full and that the file is a database"
        if url.get_backend_name() == "sqlite"
        else "Check that the server runs, and the host, the name and the password in RECLOOP_STORE_URL"
    )
    return f"cannot {what} the store at {url.render_as_string(hide_password=True)}: {error}. {remedy}"


def in_transaction(engine: Engine, act: Callable[[Connection], T]) -> T:
    """What ``act`` gives, in one transaction; done again where PostgreSQL undid it.

    It does so to break a deadlock, and when the connection is lost before the end is asked for.
    """
    for _ in range(ATTEMPTS - 1):
        done = False
        try:
            with engine.begin() as connection:
                given = act(connection)
                done = True
            return given
        except OperationalError as error:
            undone = error.connection_invalidated and not done
            if not undone and getattr(error.orig, "sqlstate", None) not in BROKEN:
                raise
    with engine.begin() as connection:
        return act(connection)


def statement_alone(engine: Engine) -> Engine:
    """The engine for a single statement: PostgreSQL commits it by itself, in a third of the round trips."""
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def fault_of(error: Exception) -> str:
    """What a log may say of an error of the store: its type and code, since its text quotes rows."""
    if isinstance(error, StoreError):
        return str(error)
    cause = getattr(error, "orig", None)
    code = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
    return f"{type(error).__name__} {code}".strip()


def _durable(connection: sqlite3.Connection, _record: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")
    end = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:  # for a new file this does not wait for another who does it
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint={LOG_PAGES}")
    connection.execute("PRAGMA secure_delete=ON")  # what is deleted is overwritten, for erasure


def take_turn(connection: Connection) -> None:
    """Wait for SQLite's write lock at the transaction's beginning; PostgreSQL locks rows, when they come."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def insert_or_ignore(connection: Connection, table: Table, rows: list[dict]) -> int:
    """Insert rows, leaving out those whose unique key is there already; returns how many went in."""
    return len(insert_new(connection, table, rows, list(table.primary_key)))


def insert_new(connection: Connection, table: Table, rows: list[dict], keys: list[Column]) -> set[tuple]:
    """``insert_or_ignore``; returns the keys of those that went in.

    SQLite gets the rows as values; many of them first as if none were known, so that it need not tell which
    went in. PostgreSQL gets many rows as one text for each column, which it takes
    apart itself: the statement is then the same for any number of rows, and making an array costs more.
    """
    if not rows:
        return set()
    rows = _in_order(table, rows)
    dialect, many = connection.dialect.name, len(rows) >= MANY
    keyed = dialect == "sqlite" and many and all(key.name in rows[0] for key in keys)
    if keyed and _all_new(connection, table, rows):
        return {tuple(row[key.name] for key in keys) for row in rows}
    statement, given = _of_values(dialect, table, *keys), rows
    bytes_in_it = any(isinstance(column.type, LargeBinary) for column in table.c)
    if dialect == "postgresql" and many and not bytes_in_it:
        texts = {name: _joined([row[name] for row in rows]) for name in rows[0]}
        if None not in texts.values():
            statement, given = _of_texts(table, tuple(texts), *keys), [texts]
    return {tuple(row) for row in connection.execute(statement, given)}


def _all_new(connection: Connection, table: Table, rows: list[dict]) -> bool:
    """Insert rows if none is known; where one is, nothing is inserted."""
    if not connection.connection.dbapi_connection.in_transaction:  # type: ignore[union-attr]
        take_turn(connection)  # the savepoint would be the transaction, and its release a commit
    connection.exec_driver_sql("SAVEPOINT all_new")
    new = connection.execute(_of_values("sqlite", table), rows).rowcount == len(rows)
    if not new:
        connection.exec_driver_sql("ROLLBACK TO all_new")
    connection.exec_driver_sql("RELEASE all_new")
    return new


def _joined(values: list) -> str | None:
    """The values in one text; None where one holds a separator."""
    nulls = values.count(None)
    if nulls == len(values):
        return SEPARATOR.join([NULL] * nulls)
    text = SEPARATOR.join([NULL if v is None else v if type(v) is str else str(v) for v in values])
    return text if (text.count(SEPARATOR), text.count(NULL)) == (len(values) - 1, nulls) else None


@cache
def _of_values(dialect: str, table: Table, *keys: Column) -> Insert:
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(table).on_conflict_do_nothing()
    return insert.returning(*keys) if keys else insert


@cache
def _of_texts(table: Table, names: tuple[str, ...], *keys: Column) -> Insert:
    """Each column of one text. None has a length there, which would cut what is too long."""
    values = []
    for name in names:
        taken_apart = func.string_to_array(bindparam(name, type_=Text()), SEPARATOR, NULL)
        kind = table.c[name].type
        array = taken_apart if isinstance(kind, String) else cast(taken_apart, postgresql.ARRAY(kind))
        values.append(func.unnest(array))
    insert = postgresql.insert(table).from_select(list(names), select(*values))
    return insert.on_conflict_do_nothing().returning(*keys)


def upsert(connection: Connection, table: Table, rows: list[dict]) -> None:
    """Insert rows, replacing those whose primary key is there already."""
    if not rows:
        return
    statement = _insert(connection, table)
    keys = [column.name for column in table.primary_key]
    others = {c.name: statement.excluded[c.name] for c in table.columns if c.name not in keys}
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=others), _in_order(table, rows)
    )


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    return (sqlite if connection.dialect.name == "sqlite" else postgresql).insert(table)


def _in_order(table: Table, rows: list[dict]) -> list[dict]:
    """By primary key, where rows have it: everybody waits in the same order, so that nobody deadlocks."""
    keys = [column.name for column in table.primary_key]
    if not all(key in rows[0] for key in keys):
        return rows
    return sorted(rows, key=lambda row: [row[key] for key in keys])


def remember(connection: Connection, name: str, value: str) -> str:
    """Note a fact unless it is known; returns the value that holds. One that is known is only read."""
    query = select(facts.c.value).where(facts.c.name == name)
    if (found := connection.execute(query).scalar_one_or_none()) is not None:
        return found
    insert_or_ignore(connection, facts, [{"name": name, "value": value}])
    return connection.execute(query).scalar_one()


def note_fact(engine: Engine, name: str, value: str) -> None:
    """Note a fact in place of what was known under its name."""
    with engine.begin() as connection:
        upsert(connection, facts, [{"name": name, "value": value}])


def facts_named(engine: Engine, beginning: str) -> dict[str, str]:
    """All facts whose names begin so, by the rest of the name."""
    mine = facts.c.name.startswith(beginning, autoescape=True)
    with engine.connect() as connection:
        rows = connection.execute(select(facts.c.name, facts.c.value).where(mine).order_by(facts.c.name))
        return {name.removeprefix(beginning): value for name, value in rows}


def recall(engine: Engine, name: str) -> str | None:
    """The value of a noted fact, or None."""
    with engine.connect() as connection:
        return connection.execute(select(facts.c.value).where(facts.c.name == name)).scalar_one_or_none()

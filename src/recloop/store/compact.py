"""Deleted rows leave their bytes behind in a database's files; here they go too."""

import time

from sqlalchemy import Connection, Engine, text

from recloop.store.engine import BUSY_SECONDS

TRIES = 20
BRIEFLY = 200  # ms that writers may be held up by one of them


def compact(engine: Engine, wholly: bool = False) -> None:
    """After a deletion: empty SQLite's log, or mark PostgreSQL's dead rows as free.

    SQLite overwrites what is deleted with zeros (``secure_delete``, on for every connection). Its log cannot
    be emptied while somebody reads an older state: after some seconds it stays. ``wholly`` writes SQLite's
    file anew, without copies that older programs left in free places; others wait.
    """
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if connection.dialect.name != "sqlite":
            connection.execute(text("VACUUM"))
            return
        if wholly:
            connection.execute(text("VACUUM"))
        connection.execute(text(f"PRAGMA busy_timeout={BRIEFLY}"))
        try:
            _empty_log(connection)
        finally:
            connection.execute(text(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}"))


def _empty_log(connection: Connection) -> None:
    for _ in range(TRIES):
        busy, _, _ = connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()
        if not busy:
            return
        time.sleep(0.1)

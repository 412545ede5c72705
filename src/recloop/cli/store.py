"""The store: its version, and backups."""

import os
import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import typer
from sqlalchemy import make_url

from recloop.cli.show import AsJson, as_json, stop
from recloop.settings import places
from recloop.store import upgrade_store

store = typer.Typer(no_args_is_help=True, help=__doc__)


@store.callback()
def _group() -> None:
    """The store: its version, and backups."""


@store.command()
def upgrade(json_: AsJson = False) -> None:
    """Bring the store to this program's version, all or nothing. Make a backup first."""
    before, after = upgrade_store(places().store)
    if json_:
        as_json({"before": before, "after": after})
    elif before == after:
        print(f"the store has version {after} already")
    else:
        print(f"the store has version {after} now; it had {before or 'none'}")


@store.command()
def backup() -> None:
    """Copy the store, while it is in use, to a new file under `backups`; erasures reach what is there."""
    where = places()
    url = make_url(where.store)
    if url.get_backend_name() != "sqlite" or not url.database:
        stop("this is for SQLite: back a server up with pg_dump; docs/privacy.md has erasure and backups")
    folder = where.home / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    file = folder / f"store-{datetime.now(UTC):%Y%m%dT%H%M%S.%f}.db"
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(url.database)) as source, closing(sqlite3.connect(file)) as target:
        source.backup(target)
    print(file)

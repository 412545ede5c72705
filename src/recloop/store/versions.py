"""The store's version: which migration it has. An empty database, and one from before there were migrations,
are brought to the newest on opening; an older one by ``recloop store upgrade``; a newer one is refused."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text

from recloop.store.errors import StoreError

if TYPE_CHECKING:
    from alembic.config import Config

HEAD = "0008"  # the newest in migrations/versions
LOCK = 0x7265636C  # PostgreSQL's advisory lock of who migrates


def read(engine: Engine) -> str | None:
    """The newest migration that a store has; None before the first."""
    with engine.connect() as connection:
        return _read(connection)


def _read(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def require(version: str) -> None:
    """Nothing, if the version is this program's.

    Raises:
        StoreError: it is older or newer.
    """
    refuse_newer(version)
    if version != HEAD:
        raise StoreError(
            f"the store has version {version}, this program needs {HEAD}: stop what uses the store, make a"
            " backup and run `recloop store upgrade`"
        )


def refuse_newer(version: str) -> None:
    """Nothing, unless the version is one that this program does not know.

    Raises:
        StoreError: a newer program made it.
    """
    if version > HEAD:
        raise StoreError(
            f"the store has version {version}, which a newer program made; this one knows {HEAD} at most:"
            " install the newer program, or go back to a backup"
        )


def upgrade(engine: Engine, target: str = "head") -> None:
    """Apply what is missing up to ``target``, in one transaction; whoever comes second finds it done."""
    from alembic import command  # a slot that finds its store as it should be never loads it

    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
        config = configuration()
        config.attributes["connection"] = connection
        command.upgrade(config, target)
        connection.commit()


def configuration() -> "Config":
    """Alembic's, without a file."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "recloop.store:migrations")
    config.set_main_option("path_separator", "os")
    return config

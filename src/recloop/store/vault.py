"""The vault: each person's key, wrapped, and whose account a pseudonym is. It lives apart from the store.

Who has the store alone, or a backup of it, can open nothing and name nobody; and where a person's key is
destroyed, what was sealed under it cannot be opened from any backup of the store.
"""

import os
import time
import uuid
from collections.abc import Iterator

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    select,
    update,
)
from sqlalchemy.exc import DatabaseError
from tqdm import tqdm

from recloop.schema import now_us
from recloop.settings import Places
from recloop.store.compact import compact
from recloop.store.engine import connect_to, insert_or_ignore
from recloop.store.errors import StoreError
from recloop.store.keys import SIZE, MasterKeys, master_keys

metadata = MetaData()
person_keys = Table(
    "person_keys",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("version", String(32), nullable=False, index=True),  # of the master key
    Column("wrapped", LargeBinary, nullable=False),
    Column("ts", BigInteger, nullable=False),
)
pseudonyms = Table(
    "pseudonyms",
    metadata,
    Column("account", String(64), primary_key=True),
    Column("user_id", String(64), nullable=False, unique=True),
    Column("ts", BigInteger, nullable=False),
)
AT_ONCE = 200  # keys wrapped anew in one transaction


class Vault:
    """The vault at a SQLAlchemy URL, under these master keys."""

    def __init__(self, url: str, keys: MasterKeys) -> None:
        self.keys, self.engine = keys, connect_to(url)
        try:
            metadata.create_all(self.engine)
        except DatabaseError as error:
            raise StoreError(f"the vault at {self.engine.url!r} cannot be opened: {error.orig}") from error

    def key(self, user_id: str) -> bytes | None:
        """The person's key, 32 bytes; None where there is none, or none any more.

        Raises:
            StoreError: it does not open.
        """
        query = select(person_keys.c.version, person_keys.c.wrapped).where(person_keys.c.user_id == user_id)
        with self.engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else self.keys.unwrap(row.version, row.wrapped, _bound(user_id))

    def make_key(self, user_id: str) -> bytes:
        """The person's key, made where there is none; of two who make it at once, one does."""
        if (found := self.key(user_id)) is not None:
            return found
        version, wrapped = self.keys.wrap(os.urandom(SIZE), _bound(user_id))
        row = {"user_id": user_id, "version": version, "wrapped": wrapped, "ts": now_us()}
        with self.engine.begin() as connection:
            insert_or_ignore(connection, person_keys, [row])
        made = self.key(user_id)
        assert made is not None
        return made

    def destroy_key(self, user_id: str) -> int:
        """Destroy the person's key: nothing that was sealed under it opens any more. How many there were."""
        with self.engine.begin() as connection:
            gone = connection.execute(delete(person_keys).where(person_keys.c.user_id == user_id)).rowcount
        compact(self.engine)
        return gone

    def pseudonym(self, account: str, make: bool = False) -> str | None:
        """The pseudonym of an account, which says nothing of it; None where it has none and none is made."""
        query = select(pseudonyms.c.user_id).where(pseudonyms.c.account == account)
        with self.engine.connect() as connection:
            found = connection.execute(query).scalar_one_or_none()
        if found is not None or not make:
            return found
        with self.engine.begin() as connection:
            row = {"account": account, "user_id": f"p-{uuid.uuid4().hex}", "ts": now_us()}
            insert_or_ignore(connection, pseudonyms, [row])
            return connection.execute(query).scalar_one()

    def accounts(self, user_ids: list[str]) -> dict[str, str]:
        """Accounts by pseudonym."""
        query = select(pseudonyms.c.user_id, pseudonyms.c.account).where(pseudonyms.c.user_id.in_(user_ids))
        with self.engine.connect() as connection:
            return {row.user_id: row.account for row in connection.execute(query)}

    def behind_the_door(self, given: str) -> str | None:
        """The name in the store of an account, or of a pseudonym, which is one; None: neither is known."""
        return given if self.accounts([given]) else self.pseudonym(given)

    def forget_account(self, user_id: str) -> int:
        """Destroy the link between a pseudonym and its account."""
        with self.engine.begin() as connection:
            gone = connection.execute(delete(pseudonyms).where(pseudonyms.c.user_id == user_id)).rowcount
        compact(self.engine)
        return gone

    def held(self) -> dict[str, int]:
        """How many persons' keys are wrapped under each version of the master key."""
        query = select(person_keys.c.version, func.count()).group_by(person_keys.c.version)
        with self.engine.connect() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def rewrap(self, pause: float = 0.0, progress: bool = True) -> int:
        """Wrap under the current master key what an older one holds, while everybody goes on; how many.

        A person's key stays what it is, so that nothing is sealed anew, and readers and writers meet either
        wrapping. What was stopped goes on where it was; ``pause`` seconds after each transaction.
        """
        current, done = self.keys.current, 0
        left = sum(count for version, count in self.held().items() if version != current)
        with tqdm(total=left, desc=f"keys under {current}", unit="key", disable=not progress) as bar:
            for rows in self._older(current):
                fresh = [
                    (row, self.keys.wrap(self.keys.unwrap(*row[1:], _bound(row[0])), _bound(row[0])))
                    for row in rows
                ]
                with self.engine.begin() as connection:
                    done += sum(_exchange(connection, row, *wrapped) for row, wrapped in fresh)
                bar.update(len(rows))
                time.sleep(pause)
        compact(self.engine)
        return done

    def _older(self, current: str) -> Iterator[list[tuple[str, str, bytes]]]:
        columns = person_keys.c.user_id, person_keys.c.version, person_keys.c.wrapped
        last = ""
        while True:
            query = select(*columns).where(person_keys.c.version != current, person_keys.c.user_id > last)
            with self.engine.connect() as connection:
                rows = connection.execute(query.order_by(person_keys.c.user_id).limit(AT_ONCE)).all()
            if not rows:
                return
            yield [(row.user_id, row.version, row.wrapped) for row in rows]
            last = rows[-1].user_id


def _exchange(connection: Connection, row: tuple[str, str, bytes], version: str, wrapped: bytes) -> int:
    """Compare and set: who was destroyed meanwhile stays so."""
    user_id, _, before = row
    here = (person_keys.c.user_id == user_id) & (person_keys.c.wrapped == before)
    return connection.execute(
        update(person_keys).where(here).values(version=version, wrapped=wrapped)
    ).rowcount


def _bound(user_id: str) -> bytes:
    return f"recloop person key/{user_id}".encode()


def open_vault(where: Places) -> Vault:
    """The vault that the settings name.

    Raises:
        StoreError: it cannot be opened, or the store is a server's and nobody said where the vault is.
    """
    if not where.vault_url and where.store_url and not where.store_url.startswith("sqlite"):
        raise StoreError(
            "the store is on a server, so RECLOOP_VAULT_URL must say where the vault is: another database, of"
            " which other backups are made"
        )
    lost = not where.kms and not where.master_keys.get_secret_value() and not where.keys.exists()
    vault = Vault(where.vault, master_keys(where))
    if lost and vault.held():
        raise StoreError(f"the vault holds keys, but {where.keys} is gone: restore it from its backup")
    return vault

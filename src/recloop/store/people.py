"""Users, their consent, and their personal data, which is sealed before it touches the disk."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, select

from recloop.schema import User, now_us
from recloop.store.engine import upsert
from recloop.store.errors import StoreError
from recloop.store.tables import consents, persons, users

PURPOSES = ("service", "personalisation", "training", "marketing")
KEY_ID = "local-1"


def add_users(engine: Engine, people: Iterable[User]) -> None:
    """Insert or replace users."""
    rows = [
        user.model_dump() | {"attributes": json.dumps(user.attributes, sort_keys=True)} for user in people
    ]
    with engine.begin() as connection:
        upsert(connection, users, rows)


def find_user(engine: Engine, user_id: str) -> User | None:
    """The user, or None where the id is not known."""
    with engine.connect() as connection:
        row = connection.execute(select(users).where(users.c.user_id == user_id)).mappings().one_or_none()
    return None if row is None else User(**{**row, "attributes": json.loads(row["attributes"])})


def set_consent(engine: Engine, user_id: str, purpose: str, granted: bool) -> None:
    """Record a consent or its withdrawal; the newest line holds.

    Raises:
        ValueError: the purpose is not one of ``PURPOSES``.
    """
    if purpose not in PURPOSES:
        raise ValueError(f"purpose must be one of {', '.join(PURPOSES)}, not {purpose!r}")
    with engine.begin() as connection:
        connection.execute(
            consents.insert(), {"user_id": user_id, "purpose": purpose, "granted": granted, "ts": now_us()}
        )


def consented(engine: Engine, user_id: str, purpose: str) -> bool:
    """Whether the person's newest word on the purpose is yes; silence is no."""
    query = (
        select(consents.c.granted)
        .where(consents.c.user_id == user_id, consents.c.purpose == purpose)
        .order_by(consents.c.id.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        return bool(connection.execute(query).scalar_one_or_none())


def master_key(file: Path) -> bytes:
    """The 32-byte key in a file that only its owner can read; made on first use.

    Raises:
        StoreError: the file holds something else.
    """
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = file.read_bytes()
        if len(key) != 32:
            raise StoreError(
                f"{file} holds {len(key)} bytes, not a key of 32: restore it from its backup"
            ) from None
        return key
    with os.fdopen(descriptor, "wb") as handle:
        key = AESGCM.generate_key(256)
        handle.write(key)
    return key


def seal_personal(engine: Engine, key: bytes, user_id: str, field: str, value: str) -> None:
    """Store one personal datum under AES-256-GCM, bound to its person and field."""
    nonce = os.urandom(12)
    sealed = nonce + AESGCM(key).encrypt(nonce, value.encode(), f"{user_id}/{field}".encode())
    with engine.begin() as connection:
        upsert(
            connection, persons, [{"user_id": user_id, "field": field, "key_id": KEY_ID, "sealed": sealed}]
        )


def open_personal(engine: Engine, key: bytes, user_id: str, field: str) -> str | None:
    """The datum in clear, or None.

    Raises:
        StoreError: the ciphertext was altered, moved to another person or field, or sealed under
            another key.
    """
    query = select(persons.c.sealed).where(persons.c.user_id == user_id, persons.c.field == field)
    with engine.connect() as connection:
        sealed = connection.execute(query).scalar_one_or_none()
    if sealed is None:
        return None
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], f"{user_id}/{field}".encode()).decode()
    except InvalidTag:
        raise StoreError(
            f"personal field {field!r} does not open: altered, moved, or sealed under another key"
        ) from None

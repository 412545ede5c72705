"""Personal data, sealed before it touches the disk. Needs cryptography, which serving does not."""

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, select

from recloop.store.engine import StoreError, upsert
from recloop.store.tables import persons

KEY_ID = "local-1"


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

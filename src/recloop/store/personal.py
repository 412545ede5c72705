"""Personal data, sealed under the person's own key before it touches the disk. Serving does not need it."""

from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from sqlalchemy import Engine, select

from recloop.store.engine import upsert
from recloop.store.errors import StoreError
from recloop.store.keys import seal, unseal
from recloop.store.tables import persons
from recloop.store.vault import Vault

SCHEME = "person-1"  # AES-256-GCM under the person's key, bound to person and field


def seal_personal(engine: Engine, vault: Vault, user_id: str, values: Mapping[str, str]) -> None:
    """Store personal data by field; each value is bound to its person and field."""
    key = vault.make_key(user_id)
    rows = [
        {"user_id": user_id, "field": field, "key_id": SCHEME, "sealed": _seal(key, user_id, field, value)}
        for field, value in values.items()
    ]
    with engine.begin() as connection:
        upsert(connection, persons, rows)


def open_personal(engine: Engine, vault: Vault, user_id: str) -> dict[str, str]:
    """The person's data in clear, by field; empty where there is none.

    Raises:
        StoreError: the key was destroyed, or a ciphertext was altered or moved from another person or field.
    """
    query = select(persons).where(persons.c.user_id == user_id).order_by(persons.c.field)
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    if not rows:
        return {}
    key = vault.key(user_id)
    if key is None:
        raise StoreError("the person's key is gone: what was sealed under it cannot be opened any more")
    return {row.field: _open(key, row.user_id, row.field, row.key_id, row.sealed) for row in rows}


def _seal(key: bytes, user_id: str, field: str, value: str) -> bytes:
    return seal(key, value.encode(), _bound(user_id, field))


def _open(key: bytes, user_id: str, field: str, scheme: str, sealed: bytes) -> str:
    if scheme != SCHEME:
        raise StoreError(f"personal field {field!r} was sealed by an older program ({scheme}): seal it again")
    try:
        return unseal(key, sealed, _bound(user_id, field)).decode()
    except InvalidTag:
        raise StoreError(
            f"personal field {field!r} does not open: altered, or moved from another person or field"
        ) from None


def _bound(user_id: str, field: str) -> bytes:
    return f"{user_id}/{field}".encode()  # an id has no slash

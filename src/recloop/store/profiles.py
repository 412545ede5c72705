"""Changes of people's profiles: what they do not name stays as it is."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, select

from recloop.schema import User
from recloop.store.engine import in_transaction, take_turn, upsert
from recloop.store.quarantine import Refused, hold
from recloop.store.tables import users


@dataclass(frozen=True)
class Change:
    """New values of one person's ``profile`` (fields of ``User``) and ``attributes``; ``ts`` in µs."""

    user_id: str
    profile: Mapping[str, Any]
    attributes: Mapping[str, Any]
    ts: int


def change_profiles(engine: Engine, changes: Sequence[Change], refused: Sequence[Refused] = ()) -> None:
    """Apply changes in the order of their time, and quarantine what is none, in one transaction.

    Raises:
        ValueError: a field of the profile has a value that no ``User`` can have.
    """

    def change(connection: Connection) -> None:
        take_turn(connection)
        hold(connection, refused)
        wanted = {one.user_id for one in changes}
        query = select(users).where(users.c.user_id.in_(wanted)).with_for_update()
        rows = {row["user_id"]: _user(dict(row)) for row in connection.execute(query).mappings()}
        for one in sorted(changes, key=lambda one: one.ts):
            old = rows.get(one.user_id) or User(user_id=one.user_id, created_at=one.ts)
            rows[one.user_id] = changed(old, one)
        upsert(connection, users, [_row(user) for user in rows.values()])

    in_transaction(engine, change)


def changed(user: User, change: Change) -> User:
    """The person after the change.

    Raises:
        ValueError: as ``change_profiles``.
    """
    attributes = user.attributes | dict(change.attributes)
    return User.model_validate(user.model_dump() | dict(change.profile) | {"attributes": attributes})


def _user(row: dict) -> User:
    return User(**{**row, "attributes": json.loads(row["attributes"])})


def _row(user: User) -> dict:
    return user.model_dump() | {"attributes": json.dumps(user.attributes, sort_keys=True)}

"""Users."""

import json
from collections.abc import Iterable

from sqlalchemy import Connection, Engine, bindparam, select

from recloop.schema import User
from recloop.store.engine import upsert
from recloop.store.log import read_history
from recloop.store.tables import users


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
        return _user(connection, user_id)


def known(engine: Engine, user_id: str, limit: int, rating_positive: float) -> tuple[User | None, list[str]]:
    """``find_user`` and ``history`` at once, as a request needs them."""
    with engine.connect() as connection:
        return _user(connection, user_id), read_history(connection, user_id, limit, rating_positive)


_USER = select(users).where(users.c.user_id == bindparam("user_id"))


def _user(connection: Connection, user_id: str) -> User | None:
    row = connection.execute(_USER, {"user_id": user_id}).mappings().one_or_none()
    return None if row is None else User(**{**row, "attributes": json.loads(row["attributes"])})

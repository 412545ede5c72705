"""How far a source that goes on has been read: moved in the transaction that writes the rows up to there."""

import json
from typing import Any

from sqlalchemy import Connection, Engine, select

from recloop.schema import now_us
from recloop.store.engine import upsert
from recloop.store.tables import cursors


def find_cursor(engine: Engine, name: str) -> Any | None:
    """The place that was reached last, as it was given; None before the first."""
    with engine.connect() as connection:
        place = connection.execute(select(cursors.c.place).where(cursors.c.name == name)).scalar_one_or_none()
    return None if place is None else json.loads(place)


def move_cursor(connection: Connection, name: str, place: Any) -> None:
    """Note the place, a value of JSON, in the caller's transaction."""
    upsert(connection, cursors, [{"name": name, "place": json.dumps(place), "ts": now_us()}])

"""The item database."""

import json
from collections.abc import Iterable

from sqlalchemy import Engine, select

from recloop.schema import Item
from recloop.store.engine import upsert
from recloop.store.tables import items


def add_items(engine: Engine, offers: Iterable[Item]) -> None:
    """Insert or replace items."""
    rows = [
        item.model_dump() | {"attributes": json.dumps(item.attributes, sort_keys=True)} for item in offers
    ]
    with engine.begin() as connection:
        upsert(connection, items, rows)


def find_items(engine: Engine, item_ids: Iterable[str] | None = None) -> list[Item]:
    """Items by id (unknown ids are left out), or all of them, in the order of their ids."""
    query = select(items).order_by(items.c.item_id)
    if item_ids is not None:
        query = query.where(items.c.item_id.in_(list(item_ids)))
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [Item(**{**row, "attributes": json.loads(row["attributes"])}) for row in rows]

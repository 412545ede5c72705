"""What an item was at a moment: features as of an event's time, so that nothing leaks from its future."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from recloop.schema import Item
from recloop.store.catalogue import among, item_of
from recloop.store.tables import item_versions


@dataclass(frozen=True)
class Version:
    """What an item was from ``ts`` (µs since 1970, UTC) until its next version; ``removed``: not offered."""

    ts: int
    item: Item
    removed: bool


def versions_of(engine: Engine, item_id: str) -> list[Version]:
    """All versions of an item, oldest first; none where the id is not known."""
    query = select(item_versions).where(item_versions.c.item_id == item_id).order_by(item_versions.c.ts)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [Version(row["ts"], item_of(row), row["removed"]) for row in rows]


def items_as_of(engine: Engine, ts: int, item_ids: Iterable[str] | None = None) -> list[Item]:
    """The catalogue as it was at ``ts`` (µs since 1970, UTC), in the order of the ids.

    A version that begins at ``ts`` holds already. Versions that came later are never looked at.
    """
    newest = select(item_versions.c.item_id, func.max(item_versions.c.ts).label("ts")).where(
        item_versions.c.ts <= ts
    )
    found: list[Item] = []
    with engine.connect() as connection:
        for some in among(item_versions.c.item_id, item_ids):
            then = newest.where(some).group_by(item_versions.c.item_id).subquery()
            query = (
                select(item_versions)
                .join(then, (item_versions.c.item_id == then.c.item_id) & (item_versions.c.ts == then.c.ts))
                .where(~item_versions.c.removed)
                .order_by(item_versions.c.item_id)
            )
            found += [item_of(row) for row in connection.execute(query).mappings()]
    return found


def items_at(engine: Engine, moments: Sequence[tuple[str, int]]) -> list[Item | None]:
    """For each pair of an item's id and a moment (µs) what the item was then; None: it was not offered."""
    found: dict[str, list[Version]] = {}
    with engine.connect() as connection:
        for some in among(item_versions.c.item_id, {item_id for item_id, _ in moments}):
            query = select(item_versions).where(some).order_by(item_versions.c.item_id, item_versions.c.ts)
            for row in connection.execute(query).mappings():
                version = Version(row["ts"], item_of(row), row["removed"])
                found.setdefault(row["item_id"], []).append(version)
    return [_at(found.get(item_id, []), ts) for item_id, ts in moments]


def _at(versions: list[Version], ts: int) -> Item | None:
    place = bisect_right(versions, ts, key=lambda version: version.ts)
    return versions[place - 1].item if place and not versions[place - 1].removed else None

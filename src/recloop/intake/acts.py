"""Datasets whose rows are one shown or met item each, with what the person did: as impressions and events."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from recloop.intake.source import ROWS_AT_ONCE, Batch, TableReport
from recloop.schema import Event, EventKind, Impression, Item, User
from recloop.store import Refused

ORGANIC = "organic"  # a person met the item by themselves


@dataclass
class ActTable:
    """A dataset that has been read and judged; a ``Source``.

    Attributes:
        acts: per row ``key`` (its own), ``user``, ``item``, ``ts`` (µs), ``policy``, and for each kind of
            event that can be a Float64 column of that name: the event's value, null where it did not happen.
    """

    name: str
    users: Sequence[User]
    items: Sequence[Item]
    acts: pl.DataFrame
    refused: list[Refused]
    reports: dict[str, TableReport]

    @property
    def size(self) -> int:
        """Users, items, impressions and events."""
        events = sum(int(self.acts[kind].is_not_null().sum()) for kind in self._kinds)
        return len(self.users) + len(self.items) + len(self.acts) + events

    @property
    def _kinds(self) -> list[EventKind]:
        return [kind for kind in EventKind if kind in self.acts.columns]

    def tables(self) -> Mapping[str, TableReport]:
        """Rows read, kept and quarantined, by file."""
        return self.reports

    def batches(self) -> Iterator[Batch]:
        """First people, items and refusals, then the acts in the order of time."""
        yield Batch(users=self.users, items=self.items, refused=self.refused)
        for part in self.acts.sort("ts", "key").iter_slices(ROWS_AT_ONCE):
            rows = list(part.iter_rows(named=True))
            yield Batch(
                impressions=[_impression(row) for row in rows],
                events=[event for row in rows for event in self._events(row)],
            )

    def _events(self, row: dict) -> Iterator[Event]:
        for kind in self._kinds:
            if row[kind] is not None:
                yield Event(
                    event_id=f"{kind}-{row['key']}",
                    user_id=row["user"],
                    item_id=row["item"],
                    kind=kind,
                    value=row[kind],
                    request_id=f"r-{row['key']}",
                    ts=row["ts"],
                )


def _impression(row: dict) -> Impression:
    return Impression(
        request_id=f"r-{row['key']}",
        position=0,
        user_id=row["user"],
        item_id=row["item"],
        propensity=None,
        policy=row["policy"],
        partial=row["policy"] != ORGANIC,
        ts=row["ts"],
    )


def first_times(acts: pl.DataFrame, key: str) -> dict[str, int]:
    """When each person, or item, is met first, in µs."""
    return dict(acts.group_by(key).agg(pl.col("ts").min()).iter_rows())

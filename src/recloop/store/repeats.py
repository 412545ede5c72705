"""The same row delivered again: harmless where it says the same, a conflict where it does not."""

import json
from collections.abc import Collection
from enum import StrEnum

from sqlalchemy import Connection, Row, select

from recloop.schema import Arrival, Event, Impression
from recloop.store.tables import events, impressions


class Outcome(StrEnum):
    """What became of one act."""

    NEW = "new"
    REPEATED = "repeated"
    CONFLICT = "conflict"  # its id is that of another act


SAID = ("user_id", "item_id", "kind", "value", "request_id")
SHOWN = ("user_id", "item_id", "propensity", "policy", "ts")


def find_acts(connection: Connection, ids: Collection[str]) -> dict[str, Row]:
    """The rows of ``events`` with these ids, by id."""
    found = connection.execute(select(events).where(events.c.event_id.in_(ids)))
    return {row.event_id: row for row in found}


def differing(act: Event, known: Row) -> list[str]:
    """Fields in which a delivery differs from the act that has its id.

    ``ts`` is compared as the sender's clock had it. Who gives none is given the time of arrival, so that two
    deliveries without one do not differ.
    """
    fields = [name for name in SAID if getattr(act, name) != getattr(known, name)]
    timeless = _timeless(act) and known.received in (None, known.ts)
    if not timeless and _said(act) != known.ts - (known.skew or 0):
        fields.append("ts")
    if isinstance(act, Arrival) and act.extra != json.loads(known.extra or "{}"):
        fields += sorted(act.extra) or ["extra"]
    return fields


def find_shown(connection: Connection, requests: Collection[str]) -> dict[tuple[str, int], Row]:
    """The rows of ``impressions`` of these requests, by request and position."""
    found = connection.execute(select(impressions).where(impressions.c.request_id.in_(requests)))
    return {(row.request_id, row.position): row for row in found}


def other_slate(shown: Impression, known: Row) -> list[str]:
    """Fields in which an impression differs from the one that its request has at its position."""
    return [name for name in SHOWN if getattr(shown, name) != getattr(known, name)]


def spoken(act: Event) -> dict:
    """An act as its sender said it, for the quarantine."""
    said = {name: value for name in SAID if (value := getattr(act, name)) is not None}
    extra = act.extra if isinstance(act, Arrival) else {}
    ts = {} if _timeless(act) else {"ts": _said(act)}
    return {"event_id": act.event_id, **said, **ts, **extra}


def _said(act: Event) -> int:
    return act.ts - (act.skew if isinstance(act, Arrival) else 0)


def _timeless(act: Event) -> bool:
    return isinstance(act, Arrival) and act.ts == act.received

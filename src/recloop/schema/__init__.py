"""The field's nouns, as typed models for the edges and as Arrow schemas for the log."""

from recloop.schema.arrow import EVENTS, IMPRESSIONS, ITEMS, TABLES, USERS
from recloop.schema.records import (
    Context,
    Event,
    EventKind,
    Impression,
    Item,
    Slate,
    User,
    now_us,
)

__all__ = [
    "EVENTS",
    "IMPRESSIONS",
    "ITEMS",
    "TABLES",
    "USERS",
    "Context",
    "Event",
    "EventKind",
    "Impression",
    "Item",
    "Slate",
    "User",
    "now_us",
]

"""The field's nouns, as typed models for the edges; ``schema.arrow`` has Arrow schemas for the log.

A slot imports this room, so it needs no pyarrow.
"""

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
    "Context",
    "Event",
    "EventKind",
    "Impression",
    "Item",
    "Slate",
    "User",
    "now_us",
]

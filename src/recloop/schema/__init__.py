"""The field's nouns, as typed models for the edges; ``schema.arrow`` has Arrow schemas for the log.

A slot imports this room, so it needs no pyarrow.
"""

from recloop.schema.records import (
    STARS,
    Arrival,
    Context,
    Event,
    EventKind,
    Failure,
    Impression,
    Item,
    Slate,
    Traffic,
    User,
    composed,
    now_us,
)

__all__ = [
    "STARS",
    "Arrival",
    "Context",
    "Event",
    "EventKind",
    "Failure",
    "Impression",
    "Item",
    "Slate",
    "Traffic",
    "User",
    "composed",
    "now_us",
]

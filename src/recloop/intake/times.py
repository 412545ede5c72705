"""Times as other programs write them."""

from datetime import datetime


def micros(value: object) -> object:
    """A ``datetime`` or ISO 8601 text with its offset as µs since 1970; whatever else as it is."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if not isinstance(value, datetime):
        return value
    return str(value) if value.tzinfo is None else round(value.timestamp() * 1e6)

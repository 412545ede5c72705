"""Arrow schemas of the tables that a snapshot holds; column order is part of the contract."""

import pyarrow as pa

_TS = pa.timestamp("us", tz="UTC")

USERS = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("age", pa.int32()),
        pa.field("sex", pa.string()),
        pa.field("region", pa.string()),
        pa.field("attributes", pa.string()),  # a JSON object
        pa.field("created_at", _TS),
    ]
)
ITEMS = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("title", pa.string()),
        pa.field("category", pa.string()),
        pa.field("price", pa.float64()),
        pa.field("available", pa.bool_()),
        pa.field("attributes", pa.string()),  # a JSON object
        pa.field("text", pa.string()),
        pa.field("image", pa.string()),
        pa.field("created_at", _TS),
    ]
)
ITEM_VERSIONS = pa.schema(  # what an item was from ``ts`` on; ``removed``: it was no longer offered
    [*ITEMS, pa.field("removed", pa.bool_()), pa.field("ts", _TS)]
)
IMPRESSIONS = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("position", pa.int32()),
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("propensity", pa.float64()),
        pa.field("policy", pa.string()),
        pa.field("slot", pa.string()),
        pa.field("device", pa.string()),
        pa.field("partial", pa.bool_()),
        pa.field("ts", _TS),
    ]
)
EVENTS = pa.schema(
    [
        pa.field("event_id", pa.string(), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("item_id", pa.string()),
        pa.field("kind", pa.string()),
        pa.field("value", pa.float64()),
        pa.field("request_id", pa.string()),
        pa.field("ts", _TS),
    ]
)
TABLES = {"users": USERS, "items": ITEMS, "impressions": IMPRESSIONS, "events": EVENTS}

"""The store: users, items, events, consent, and the state of delivery. SQLite or PostgreSQL."""

from recloop.store.catalogue import add_items, find_items
from recloop.store.engine import fault_of, open_store, recall, remember, upgrade_store
from recloop.store.errors import StoreError
from recloop.store.log import Refused, append, history, popular, write
from recloop.store.people import (
    PURPOSES,
    add_users,
    consented,
    find_user,
    master_key,
    open_personal,
    seal_personal,
    set_consent,
)
from recloop.store.snapshot import Watermark, watermark, write_snapshot
from recloop.store.writer import Busy, Writer

__all__ = [
    "PURPOSES",
    "Busy",
    "Refused",
    "StoreError",
    "Watermark",
    "Writer",
    "add_items",
    "add_users",
    "append",
    "consented",
    "fault_of",
    "find_items",
    "find_user",
    "history",
    "master_key",
    "open_personal",
    "open_store",
    "popular",
    "recall",
    "remember",
    "seal_personal",
    "set_consent",
    "upgrade_store",
    "watermark",
    "write",
    "write_snapshot",
]

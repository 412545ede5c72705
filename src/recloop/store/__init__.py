"""The store: users, items, events, consent, and the state of delivery. SQLite or PostgreSQL.

``store.snapshot`` (Parquet), and ``store.personal``, ``vault`` and ``keys`` (sealed data) need what serving
does not.
"""

from recloop.store.catalogue import Put, add_items, find_items, remove_items
from recloop.store.consent import PURPOSES, consented, set_consent, set_consents
from recloop.store.engine import fault_of, open_store, recall, remember, upgrade_store
from recloop.store.errors import StoreError
from recloop.store.item_history import Version, items_as_of, items_at, versions_of
from recloop.store.item_search import categories, search_items
from recloop.store.log import Exposure, Rows, Taken, acted_on, append, history, popular, take, write
from recloop.store.people import add_users, find_user, known
from recloop.store.quarantine import Refused
from recloop.store.repeats import Outcome
from recloop.store.writer import Busy, Writer

__all__ = [
    "PURPOSES",
    "Busy",
    "Exposure",
    "Outcome",
    "Put",
    "Refused",
    "Rows",
    "StoreError",
    "Taken",
    "Version",
    "Writer",
    "acted_on",
    "add_items",
    "add_users",
    "append",
    "categories",
    "consented",
    "fault_of",
    "find_items",
    "find_user",
    "history",
    "items_as_of",
    "items_at",
    "known",
    "open_store",
    "popular",
    "recall",
    "remember",
    "remove_items",
    "search_items",
    "set_consent",
    "set_consents",
    "take",
    "upgrade_store",
    "versions_of",
    "write",
]

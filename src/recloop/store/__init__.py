"""The store: users, items, events, consent, and the state of delivery. SQLite or PostgreSQL.

``store.snapshot`` (Parquet), and ``store.personal``, ``vault`` and ``keys`` (sealed data) need what serving
does not.
"""

from recloop.store.catalogue import add_items, find_items
from recloop.store.consent import PURPOSES, consented, set_consent, set_consents
from recloop.store.engine import fault_of, open_store, recall, remember, upgrade_store
from recloop.store.errors import StoreError
from recloop.store.log import Exposure, Rows, Taken, append, history, popular, take, write
from recloop.store.people import add_users, find_user, known
from recloop.store.quarantine import Refused
from recloop.store.repeats import Outcome
from recloop.store.writer import Busy, Writer

__all__ = [
    "PURPOSES",
    "Busy",
    "Exposure",
    "Outcome",
    "Refused",
    "Rows",
    "StoreError",
    "Taken",
    "Writer",
    "add_items",
    "add_users",
    "append",
    "consented",
    "fault_of",
    "find_items",
    "find_user",
    "history",
    "known",
    "open_store",
    "popular",
    "recall",
    "remember",
    "set_consent",
    "set_consents",
    "take",
    "upgrade_store",
    "write",
]

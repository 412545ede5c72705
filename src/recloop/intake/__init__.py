"""Intake: how data comes in. A source is read, judged row by row, and written to the store.

``recloop.intake.readers`` reads files (``movielens``, ``open_bandit``, ``server_log``); that needs
Polars, which a gateway that only takes events over HTTP does not.
"""

from recloop.intake.feedback import parse_events
from recloop.intake.source import (
    Batch,
    DatasetError,
    ImportReport,
    Source,
    SourceConflict,
    TableReport,
    import_into,
)

__all__ = [
    "Batch",
    "DatasetError",
    "ImportReport",
    "Source",
    "SourceConflict",
    "TableReport",
    "import_into",
    "parse_events",
]

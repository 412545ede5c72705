"""The readers by name, and the one that fits a path. To add a source, write its module and a line here."""

from collections.abc import Callable
from pathlib import Path

from recloop.intake import kuai, retail_rocket
from recloop.intake.files import EventTable, ImpressionTable, OrganicTable, PersonTable, Table, shape
from recloop.intake.kuai import read_kuai
from recloop.intake.movielens import read_movielens
from recloop.intake.movielens_layouts import find_layout
from recloop.intake.open_bandit import find_logs, read_open_bandit
from recloop.intake.retail_rocket import read_retail_rocket
from recloop.intake.server_log import ServerLog
from recloop.intake.source import DatasetError, Source

READERS: dict[str, Callable[[Path], Source]] = {
    "movielens": read_movielens,
    "open-bandit": read_open_bandit,
    "retail-rocket": read_retail_rocket,
    "kuai": read_kuai,
    "events": EventTable,
    "organic": OrganicTable,
    "impressions": ImpressionTable,
    "people": PersonTable,
    "server-log": ServerLog,
}


FINDERS: list[tuple[Callable[[Path], object], str]] = [
    (find_layout, "movielens"),
    (find_logs, "open-bandit"),
    (retail_rocket.find_events, "retail-rocket"),
    (kuai.find_logs, "kuai"),
]


def read_dataset(path: Path) -> Source:
    """Read whatever a path holds: a table or a server's log where it is a file, else a known dataset.

    A table is told by its columns; JSON lines are a log.

    Raises:
        DatasetError: nothing that is known, or a known dataset that cannot be read.
    """
    if path.is_file():
        return _table(path) if path.suffix in (".csv", ".parquet") else ServerLog(path)
    reasons = []
    for find, name in FINDERS:
        try:
            find(path)
        except DatasetError as error:
            reasons.append(str(error))
        else:
            return READERS[name](path)
    raise DatasetError("; ".join(dict.fromkeys(reasons)))


def _table(path: Path) -> Table:
    columns, _ = shape(path)
    tables: tuple[type[Table], ...] = (EventTable, ImpressionTable, PersonTable)
    fitting = (table for table in tables if set(table.needed) <= set(columns or ()))
    return next(fitting, EventTable)(path)

"""The readers by name, and the one that fits a path. To add a source, write its module and a line here."""

from collections.abc import Callable
from pathlib import Path

from recloop.intake.movielens import read_movielens
from recloop.intake.movielens_layouts import find_layout
from recloop.intake.open_bandit import find_logs, read_open_bandit
from recloop.intake.server_log import ServerLog
from recloop.intake.source import DatasetError, Source

READERS: dict[str, Callable[[Path], Source]] = {
    "movielens": read_movielens,
    "open-bandit": read_open_bandit,
    "server-log": ServerLog,
}


def read_dataset(path: Path) -> Source:
    """Read whatever a path holds: a server log where it is a file, else a known dataset's folder.

    Raises:
        DatasetError: nothing that is known, or a known dataset that cannot be read.
    """
    if path.is_file():
        return ServerLog(path)
    reasons = []
    for find, name in ((find_layout, "movielens"), (find_logs, "open-bandit")):
        try:
            find(path)
        except DatasetError as error:
            reasons.append(str(error))
        else:
            return READERS[name](path)
    raise DatasetError("; ".join(dict.fromkeys(reasons)))

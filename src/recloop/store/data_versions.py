"""The data versions that were made here, and what each added: a line of JSON for each."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

FILE = "data-versions.jsonl"


@dataclass(frozen=True)
class DataVersion:
    """One version of the snapshot.

    Attributes:
        version: DVC's hash of the folder, as in ``dvc.lock``.
        made: when, as ISO 8601, UTC.
        source: of the store's data.
        rows: by table of the snapshot.
        added: rows more than in the version before, by table; fewer where people have withdrawn.
        written: Parquet files of logs that this version has and the one before did not.
        parts: such files in all.
    """

    version: str
    made: str
    source: str
    rows: dict[str, int]
    added: dict[str, int]
    written: int
    parts: int


def note_version(
    home: Path, version: str, source: str, rows: Mapping[str, int], written: int, parts: int
) -> DataVersion:
    """Add a version to the list, unless it is the newest already; what is noted of it."""
    last = next(iter(reversed(data_versions(home))), None)
    if last and last.version == version:
        return last
    base = last.rows if last and last.source == source else {}
    added = {table: count - base.get(table, 0) for table, count in rows.items()}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    found = DataVersion(version, made, source, dict(rows), added, written, parts)
    with (home / FILE).open("a+b") as file:
        torn = file.tell() > 0 and _last_byte(file) != b"\n"  # by a crash: it must not take this line along
        file.write(b"\n" * torn + json.dumps(asdict(found)).encode() + b"\n")
    return found


def _last_byte(file: BinaryIO) -> bytes:
    file.seek(-1, os.SEEK_END)
    return file.read(1)


def data_versions(home: Path) -> list[DataVersion]:
    """All that were noted, oldest first; a line that was torn by a crash is passed over."""
    try:
        lines = (home / FILE).read_text().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            found.append(DataVersion(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found

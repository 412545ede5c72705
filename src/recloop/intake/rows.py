"""Rows of a file of CSV, JSON lines or Parquet, as they came, so many at once."""

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recloop.intake.source import ROWS_AT_ONCE, DatasetError

OBJECT = "attributes"  # a field that is a JSON object where it stands as text


def read_rows(path: Path, fields: Collection[str], progress: bool = True) -> Iterator[list[object]]:
    """The rows of a ``.csv``, ``.jsonl`` or ``.parquet`` file; what is no row of fields stays as it is.

    A CSV has the fields' names in its first line. An empty field is absent, and so is a null.

    Raises:
        DatasetError: the file cannot be read, is of no known kind, or has a column beyond ``fields``.
    """
    if path.suffix not in READERS:
        raise DatasetError(f"{path} is none of {', '.join(READERS)}: name it by what it holds")
    try:
        size, quiet, read = path.stat().st_size, not progress, 0
        with tqdm(desc=f"import {path.name}", total=size, unit="B", unit_scale=True, mininterval=1,
                  disable=quiet) as bar:  # fmt: skip
            for rows, come in READERS[path.suffix](path, fields):
                yield rows
                read += len(rows)
                bar.set_postfix(rows=read, refresh=False)
                bar.update(min(come, size) - bar.n)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        why = f"cannot read {path}: {error}; is it whole, of the kind that it is named, and in UTF-8?"
        raise DatasetError(why) from error


def _csv(path: Path, fields: Collection[str]) -> Iterator[tuple[list[object], int]]:
    with path.open("rb") as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        if unknown := [name for name in rows.fieldnames or [] if name not in fields]:
            more = f", and other facts go into the JSON object {OBJECT}" if OBJECT in fields else ""
            raise DatasetError(
                f"{path} has a column {unknown[0]!r}; the fields are {', '.join(fields)}{more}"
            )
        while part := list(islice(rows, ROWS_AT_ONCE)):
            yield [filled(row) for row in part], raw.tell()


def _jsonl(path: Path, *_: object) -> Iterator[tuple[list[object], int]]:
    """A line that is no JSON stays text."""
    with path.open("rb") as raw:
        while part := list(islice(raw, ROWS_AT_ONCE)):
            yield [parsed(line) for line in part if line.strip()], raw.tell()


def _parquet(path: Path, *_: object) -> Iterator[tuple[list[object], int]]:
    """The JSON object may be text or a struct."""
    with pq.ParquetFile(path) as file:
        done, size = 0, path.stat().st_size
        for part in file.iter_batches(ROWS_AT_ONCE):
            done += len(part)
            yield [filled(row) for row in part.to_pylist()], size * done // file.metadata.num_rows


def filled(row: dict) -> dict:
    """A row without its empty fields; its JSON object may be text or a struct."""
    found = {name: value for name, value in row.items() if value not in ("", None)}
    match found.get(OBJECT):
        case str(text):
            found[OBJECT] = parsed(text)
        case dict(struct):
            found[OBJECT] = {name: value for name, value in struct.items() if value is not None}
    return found


def parsed(text: str | bytes) -> object:
    """What the text says in JSON; what is none stays text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text if isinstance(text, str) else text.decode(errors="replace").strip()


Reader = Callable[[Path, Collection[str]], Iterator[tuple[list[object], int]]]
READERS: dict[str, Reader] = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}

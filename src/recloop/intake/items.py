"""Items as they come: a JSON list over HTTP, or a file of CSV, JSON lines or Parquet."""

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError
from sqlalchemy import Engine
from tqdm import tqdm

from recloop.intake.source import DatasetError
from recloop.schema import Item, now_us
from recloop.store import Put, Refused, add_items, append

ROWS_AT_ONCE = 20_000  # of one transaction: fewer pages of the index are written for each row
FILE = "item-file"  # the source of what is refused of a file


@dataclass
class ItemsReport:
    """What became of a file's rows; ``reasons`` counts the refused ones."""

    read: int = 0
    put: Put = field(default_factory=Put)
    reasons: Counter[str] = field(default_factory=Counter)


def parse_items(raw: Sequence[object]) -> tuple[list[Item], dict[int, str]]:
    """Items of rows as they came; by the row's place, what is wrong with which field of the others."""
    good: list[Item] = []
    wrong: dict[int, str] = {}
    for place, body in enumerate(raw):
        try:
            good.append(Item.model_validate(body))
        except ValidationError as error:
            wrong[place] = reason_of(error)
    return good, wrong


def reason_of(error: ValidationError) -> str:
    """What is wrong with which field."""
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'item'}: {e['msg']}" for e in error.errors())


def import_items(engine: Engine, path: Path, progress: bool = True) -> ItemsReport:
    """Put the items of a ``.csv``, ``.jsonl`` or ``.parquet`` file into the catalogue.

    Rows that are no items are quarantined with file, row and reason. What was read stays when it is
    interrupted, and importing again changes only what differs.

    Raises:
        DatasetError: the file cannot be read, is of no known kind, or has a column that items do not have.
    """
    if path.suffix not in READERS:
        raise DatasetError(f"{path} is none of {', '.join(READERS)}: name it by what it holds")
    report = ItemsReport()
    try:
        size = path.stat().st_size
        name, quiet = f"import {path.name}", not progress
        with tqdm(desc=name, total=size, unit="B", unit_scale=True, mininterval=1, disable=quiet) as bar:
            for rows, come in READERS[path.suffix](path):
                good, wrong = parse_items(rows)
                refused = [
                    Refused(FILE, "item", why, _where(path, report.read + n + 1, rows[n]))
                    for n, why in wrong.items()
                ]
                report.put += add_items(engine, good, born=now_us())
                append(engine, refused=refused)
                report.read += len(rows)
                report.reasons.update(wrong.values())
                bar.set_postfix(rows=report.read, refused=report.reasons.total(), refresh=False)
                bar.update(min(come, size) - bar.n)
    except (OSError, pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        why = f"cannot read {path}: {error}; is it whole, and of the kind that it is named?"
        raise DatasetError(why) from error
    return report


def _where(path: Path, row: int, body: object) -> dict:
    return {"file": path.name, "row": row, "item": body}


def _csv(path: Path) -> Iterator[tuple[list[object], int]]:
    """Empty fields are absent; ``attributes`` is a JSON object."""
    with path.open("rb") as raw:
        rows = csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8-sig", newline=""))
        names = rows.fieldnames or []
        if unknown := [name for name in names if name not in Item.model_fields]:
            raise DatasetError(
                f"{path} has a column {unknown[0]!r}; items have {', '.join(Item.model_fields)}, and other"
                " facts go into the JSON object attributes"
            )
        while part := list(islice(rows, ROWS_AT_ONCE)):
            yield [_fields(row) for row in part], raw.tell()


def _fields(row: dict) -> object:
    found = {name: value for name, value in row.items() if value not in ("", None)}
    if "attributes" in found:
        found["attributes"] = _parsed(found["attributes"])
    return found


def _jsonl(path: Path) -> Iterator[tuple[list[object], int]]:
    """A line that is no JSON stays text, which is no item."""
    with path.open("rb") as raw:
        while part := list(islice(raw, ROWS_AT_ONCE)):
            yield [_parsed(line) for line in part if line.strip()], raw.tell()


def _parquet(path: Path) -> Iterator[tuple[list[object], int]]:
    """``attributes`` may be JSON text or a struct; a missing value is absent."""
    with pq.ParquetFile(path) as file:
        done, size = 0, path.stat().st_size
        for part in file.iter_batches(ROWS_AT_ONCE):
            done += len(part)
            yield [_present(row) for row in part.to_pylist()], size * done // file.metadata.num_rows


def _present(row: dict) -> object:
    found = {name: value for name, value in row.items() if value is not None}
    match found.get("attributes"):
        case str(text):
            found["attributes"] = _parsed(text)
        case dict(struct):
            found["attributes"] = {name: value for name, value in struct.items() if value is not None}
    return found


def _parsed(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text if isinstance(text, str) else text.decode(errors="replace").strip()


READERS = {".csv": _csv, ".jsonl": _jsonl, ".parquet": _parquet}

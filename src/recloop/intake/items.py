"""Items as they come: a JSON list over HTTP, or a file of CSV, JSON lines or Parquet."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError
from sqlalchemy import Engine

from recloop.intake.rows import read_rows
from recloop.schema import Item, now_us
from recloop.store import Put, Refused, add_items, append

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
        DatasetError: as ``read_rows``.
    """
    report = ItemsReport()
    for rows in read_rows(path, Item.model_fields, progress):
        good, wrong = parse_items(rows)
        refused = [
            Refused(FILE, "item", why, {"file": path.name, "row": report.read + n + 1, "item": rows[n]})
            for n, why in wrong.items()
        ]
        report.put += add_items(engine, good, born=now_us())
        append(engine, refused=refused)
        report.read += len(rows)
        report.reasons.update(wrong.values())
    return report

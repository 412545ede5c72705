"""Consents as another system holds them: a file of words, each of one person on one purpose."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy import Engine

from recloop.intake.feedback import AHEAD
from recloop.intake.reasons import Unfit, unfit
from recloop.intake.rows import read_rows
from recloop.schema import Failure, now_us
from recloop.schema.records import Identifier, Micros, Record
from recloop.store import Refused, append
from recloop.store.statements import Heard, Statement, add_statements

FILE = "consent-file"  # the source of what is refused
Naming = Callable[[str, bool], str | None]


class Said(Record):
    """One row; without ``version`` it is about the present terms, without ``ts`` it was said now."""

    user_id: Identifier
    purpose: Literal["service", "personalisation", "training", "marketing"]
    granted: bool
    version: Annotated[int, Field(ge=1)] | None = None
    ts: Micros | None = None


@dataclass
class ConsentsReport:
    """What became of a file's rows; ``reasons`` counts the refused ones."""

    read: int = 0
    new: int = 0
    same: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def parse_consents(
    raw: Sequence[object], terms: Mapping[str, int], now: int
) -> Iterator[tuple[int, Said | Unfit]]:
    """Per row of a batch its place, and the word or why it is none; ``now`` in µs since 1970."""
    for place, body in enumerate(raw):
        try:
            said = Said.model_validate(body)
            if said.version is not None and said.version > terms.get(said.purpose, 1):
                present = terms.get(said.purpose, 1)
                raise Unfit(f"version: {said.version}, but the terms' is {present}", Failure.RANGE)
            if said.ts is not None and said.ts > now + AHEAD:
                raise Unfit("ts: in the future; it is in microseconds since 1970, UTC", Failure.RANGE)
            yield place, said
        except ValueError as error:
            yield place, unfit(error)


def import_consents(
    engine: Engine, path: Path, terms: Mapping[str, int], name: Naming | None = None, progress: bool = True
) -> ConsentsReport:
    """Record the words of a ``.csv``, ``.jsonl`` or ``.parquet`` file with the fields of ``Said``.

    Rows that are no words are quarantined with file, row and reason; so is a word that is older than what the
    person said since. Importing again adds nothing.

    Args:
        terms: the version of the terms that holds, by purpose.
        name: the name behind the door of an account, made where the second argument says so; None: ids are
            names.

    Raises:
        DatasetError: as ``read_rows``.
    """
    report = ConsentsReport()
    for rows in read_rows(path, Said.model_fields, progress):
        wrong: dict[int, Unfit] = {}
        places, said = [], []
        for place, one in parse_consents(rows, terms, now_us()):
            if isinstance(one, Unfit):
                wrong[place] = one
            elif found := one.user_id if name is None else name(one.user_id, one.granted):
                version = one.version or terms.get(one.purpose, 1)
                places.append(place)
                said.append(Statement(found, one.purpose, one.granted, version, one.ts))
            else:
                report.same += 1  # a no of an account of which nothing is known: silence is a no
        for place, heard in zip(places, add_statements(engine, said), strict=True):
            if heard is Heard.OUTDATED:
                wrong[place] = Unfit("ts: older than what the person said of it since", Failure.TOO_OLD)
            report.new += heard is Heard.NEW
            report.same += heard is Heard.SAME
        append(engine, refused=_refused(wrong, rows, path, report.read, name))
        report.read += len(rows)
        report.reasons.update(str(why) for why in wrong.values())
    return report


def _refused(
    wrong: Mapping[int, Unfit], rows: Sequence[object], path: Path, before: int, name: Naming | None
) -> list[Refused]:
    """The rows as they came, but that no account stands in them: its pseudonym does, where there is one."""
    found = []
    for place, why in sorted(wrong.items()):
        body = rows[place]
        if name is not None:
            who = body.get("user_id") if isinstance(body, dict) else None
            known = name(who, False) if isinstance(who, str) and 0 < len(who) <= 64 else None
            body = body | {"user_id": known or "left out"} if isinstance(body, dict) else "left out"
        kept = {"file": path.name, "row": before + place + 1, "consent": body}
        found.append(Refused(FILE, "consent", str(why), kept, why.failure))
    return found

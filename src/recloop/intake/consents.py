"""Consents as another system holds them: a list or a file of words, each of one person on one purpose."""

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
from recloop.store import Refused
from recloop.store.engine import in_transaction
from recloop.store.person import note_access
from recloop.store.quarantine import hold
from recloop.store.statements import Heard, Statement, add_statements

FILE = "consent-file"  # the source of what is refused
Naming = Callable[[str, bool], str | None]
Kept = Callable[[int, object], object]


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


def take_consents(
    engine: Engine,
    rows: Sequence[object],
    terms: Mapping[str, int],
    who: str,
    source: str,
    name: Naming | None = None,
    kept: Kept = lambda _, body: body,
) -> tuple[list[Heard | Unfit], set[str]]:
    """Record the words of a batch; what became of each row, and the people who said something new.

    Rows that are no words are quarantined with their reason; so is a word that is older than what the
    person said since. The same batch again adds nothing.

    Args:
        terms: the version of the terms that holds, by purpose.
        who: who brings them, for the access log.
        source: of what is refused.
        name: the name behind the door of an account, made where the second argument says so; None: ids are
            names.
        kept: a refused row as the quarantine keeps it, from its place and its body.
    """
    became: list[Heard | Unfit] = [Heard.SAME] * len(rows)
    places, said = [], []
    for place, one in parse_consents(rows, terms, now_us()):
        if isinstance(one, Unfit):
            became[place] = one
        elif found := one.user_id if name is None else name(one.user_id, one.granted):
            version = one.version or terms.get(one.purpose, 1)
            places.append(place)
            said.append(Statement(found, one.purpose, one.granted, version, one.ts))
        # else a no of an account of which nothing is known: silence is a no
    new = set()
    for place, statement, heard in zip(places, said, add_statements(engine, said), strict=True):
        became[place] = heard
        if heard is Heard.NEW:
            new.add(statement.user_id)
        elif heard is Heard.OUTDATED:
            became[place] = Unfit("ts: older than what the person said of it since", Failure.TOO_OLD)
    refused = [
        Refused(source, "consent", str(why), kept(place, _nameless(rows[place], name)), why.failure)
        for place, why in enumerate(became)
        if isinstance(why, Unfit)
    ]
    in_transaction(engine, lambda connection: hold(connection, refused))
    note_access(engine, who, "consents", *sorted(new))
    return became, new


def import_consents(
    engine: Engine,
    path: Path,
    terms: Mapping[str, int],
    who: str,
    name: Naming | None = None,
    progress: bool = True,
) -> ConsentsReport:
    """``take_consents`` of a ``.csv``, ``.jsonl`` or ``.parquet`` file with the fields of ``Said``.

    Raises:
        DatasetError: as ``read_rows``.
    """
    report = ConsentsReport()
    for rows in read_rows(path, Said.model_fields, progress):

        def kept(place: int, body: object, before: int = report.read) -> object:
            return {"file": path.name, "row": before + place + 1, "consent": body}

        became, _ = take_consents(engine, rows, terms, who, FILE, name, kept)
        report.read += len(rows)
        report.new += became.count(Heard.NEW)
        report.same += became.count(Heard.SAME)
        report.reasons.update(str(why) for why in became if isinstance(why, Unfit))
    return report


def _nameless(body: object, name: Naming | None) -> object:
    """The row as it came, but that no account stands in it: its pseudonym does, where there is one."""
    if name is None:
        return body
    if not isinstance(body, dict):
        return "left out"
    who = body.get("user_id")
    known = name(who, False) if isinstance(who, str) and 0 < len(who) <= 64 else None
    return body | {"user_id": known or "left out"}

"""What was refused at the door: kept as it came with its reason, to be looked at, repaired and let in."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Engine, func, or_, select

from recloop.schema import Failure, now_us
from recloop.store.tables import quarantine

MISSING = "\ufffd"  # in place of NUL, which PostgreSQL does not take
KEPT = 1 << 20  # characters of a body
AT_ONCE = 500  # rows that are read
LINE = re.compile(r'[?&]uid=([^&#"\s]+)|"user_id"\s*:\s*"([^"\\]*)"')  # whose act a line of a log is


@dataclass(frozen=True)
class Refused:
    """A row that was not let in, as it came, with the reason.

    Attributes:
        source: who sent it (``http``, the name of a dataset or of a log).
        kind: what it should have been (``event``, ``log``, a table of a dataset; ``body``: a whole request).
    """

    source: str
    kind: str
    reason: str
    body: object
    failure: Failure = Failure.SCHEMA


@dataclass(frozen=True)
class Held:
    """A row of the quarantine.

    Attributes:
        body: as JSON; of one above ``KEPT`` characters its beginning, under the name ``cut``.
        ts: when it was refused, in µs since 1970.
        replayed: when it was let in, in µs; None where it waits.
        repaired: as what it was let in, where that is not ``body``.
    """

    id: int
    source: str
    kind: str
    failure: str
    reason: str
    body: str
    ts: int
    replayed: int | None
    repaired: str | None


def person_in(row: Refused) -> str | None:
    """Whom a row names; None where nobody can say."""
    if not isinstance(row.body, dict):
        return None
    who = row.body.get("user_id")
    if row.kind == "log" and (found := LINE.search(str(row.body.get("text")))):
        who = unquote(found[1] or found[2] or "")
    return who if isinstance(who, str) and 0 < len(who) <= 64 and "\0" not in who else None


def under(row: Refused, name: str) -> Refused:
    """The row, of which ``person_in`` knows whose it is, with another name of the person."""
    assert isinstance(row.body, dict)
    if row.kind != "log":
        return replace(row, body=row.body | {"user_id": name})
    text = row.body["text"]
    found = LINE.search(text)
    assert found is not None
    start, end = found.span(1 if found[1] is not None else 2)
    return replace(row, body=row.body | {"text": text[:start] + quote(name, safe=":") + text[end:]})


def text_of(body: object) -> str:
    """A body as the quarantine keeps it."""
    text = json.dumps(body, default=str)
    if len(text) <= KEPT:
        return text
    return json.dumps({"cut": text[: KEPT // 2], "characters": len(text)})


def hold(connection: Connection, refused: Sequence[Refused], once: bool = False) -> None:
    """Add rows; with ``once`` those that are held already, body and reason, are left out."""
    now = now_us()
    rows = [
        {
            "source": row.source,
            "kind": row.kind,
            "failure": row.failure,
            "reason": row.reason and row.reason.replace("\0", MISSING),
            "body": text_of(row.body),
            "ts": now,
        }
        for row in refused
    ]
    if once and rows:
        known = _known(connection, rows)
        rows = [row for row in rows if (row["reason"], row["body"]) not in known]
    if rows:
        connection.execute(quarantine.insert(), rows)


def _known(connection: Connection, rows: Sequence[dict]) -> set[tuple[str, str]]:
    query = select(quarantine.c.reason, quarantine.c.body).where(
        quarantine.c.failure.in_({row["failure"] for row in rows}),
        quarantine.c.reason.in_({row["reason"] for row in rows}),
    )
    return {(row.reason, row.body) for row in connection.execute(query)}


def held(
    engine: Engine,
    limit: int,
    before: int | None = None,
    failure: str | None = None,
    source: str | None = None,
    waiting: bool = False,
) -> list[Held]:
    """The newest rows; ``before`` an id, of one failure or source, or only those that wait."""
    query = select(quarantine).order_by(quarantine.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(quarantine.c.id < before)
    if failure is not None:
        query = query.where(quarantine.c.failure == failure)
    if source is not None:
        query = query.where(quarantine.c.source == source)
    if waiting:
        query = query.where(quarantine.c.replayed.is_(None))
    with engine.connect() as connection:
        return [Held(**row) for row in connection.execute(query).mappings()]


def held_of(connection: Connection, user_id: str) -> list[dict]:
    """The rows that are of this person alone, oldest first; one that nobody can read may be anybody's."""
    names = or_(*[quarantine.c.body.contains(sign, autoescape=True) for sign in (user_id, "%")])
    query = select(quarantine).where(names).order_by(quarantine.c.id).execution_options(yield_per=AT_ONCE)
    found = []
    for row in connection.execute(query).mappings():
        if person_in(Refused(row["source"], row["kind"], "", json.loads(row["body"]))) == user_id:
            found.append(dict(row))
    return found


def find_held(engine: Engine, number: int) -> Held | None:
    """One row, or None."""
    with engine.connect() as connection:
        row = connection.execute(select(quarantine).where(quarantine.c.id == number)).mappings().one_or_none()
    return None if row is None else Held(**row)


def count_held(engine: Engine) -> list[tuple[str, str, int, int]]:
    """Source, failure, how many rows, and how many of them wait."""
    waiting = func.count() - func.count(quarantine.c.replayed)
    groups = (quarantine.c.source, quarantine.c.failure)
    query = select(*groups, func.count(), waiting).group_by(*groups).order_by(*groups)
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query)]


def mark_replayed(connection: Connection, number: int, repaired: str | None) -> bool:
    """Note in the caller's transaction that a row is let in; False where it was before."""
    change = quarantine.update().where(quarantine.c.id == number, quarantine.c.replayed.is_(None))
    return connection.execute(change.values(replayed=now_us(), repaired=repaired)).rowcount == 1

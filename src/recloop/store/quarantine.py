"""What was refused at the door: kept as it came with its reason, to be looked at, repaired and let in."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from urllib.parse import quote, unquote

from sqlalchemy import Connection, Engine, Insert, func, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from recloop.schema import Failure, Traffic, now_us
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
        traffic: what its sender was found to be, where that is no customer; an address is kept nowhere.
    """

    source: str
    kind: str
    reason: str
    body: object
    failure: Failure = Failure.SCHEMA
    traffic: Traffic | None = None


@dataclass(frozen=True)
class Held:
    """A row of the quarantine.

    Attributes:
        body: as JSON; of one above ``KEPT`` characters its beginning, under the name ``cut``.
        ts: when it was refused first, in µs since 1970.
        replayed: when it was let in, in µs; None where it waits.
        repaired: as what it was let in, where that is not ``body``.
        traffic: as ``Refused`` has it.
        seen: how often it came.
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
    traffic: str | None
    seen: int


COLUMNS = [quarantine.c[one.name] for one in fields(Held)]


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
    return replace(row, body=row.body | {"text": line_under(row.body["text"], name)})


def line_under(text: str, name: str) -> str:
    """A line of a log with another name of its person, also where an address that led there names one."""

    def renamed(found: re.Match[str]) -> str:
        start, end = (place - found.start() for place in found.span(1 if found[1] is not None else 2))
        return found[0][:start] + quote(name, safe=":") + found[0][end:]

    return LINE.sub(renamed, text)


def text_of(body: object) -> str:
    """A body as the quarantine keeps it."""
    text = json.dumps(body, default=str)
    if len(text) <= KEPT:
        return text
    return json.dumps({"cut": text[: KEPT // 2], "characters": len(text)})


def hold(connection: Connection, refused: Sequence[Refused]) -> None:
    """Add rows; of one that is held already it is only counted how often it came.

    Two are the same if source, kind, failure, sender and body are: figures in a reason may be of the moment.
    """
    now = now_us()
    rows: dict[str, dict] = {}
    for row in refused:
        body = text_of(row.body)
        said = "\0".join((row.source, row.kind, row.failure, row.traffic or "", body))
        digest = hashlib.sha256(said.encode()).hexdigest()[:32]
        if digest in rows:
            rows[digest]["seen"] += 1
            continue
        rows[digest] = {
            "source": row.source,
            "kind": row.kind,
            "failure": row.failure,
            "reason": row.reason and row.reason.replace("\0", MISSING),
            "body": body,
            "ts": now,
            "traffic": row.traffic,
            "seen": 1,
            "digest": digest,
        }
    if rows:
        connection.execute(_counting(connection.dialect.name), list(rows.values()))


@cache
def _counting(dialect: str) -> Insert:
    insert = (sqlite if dialect == "sqlite" else postgresql).insert(quarantine)
    more = {"seen": quarantine.c.seen + insert.excluded.seen}
    return insert.on_conflict_do_update(index_elements=[quarantine.c.digest], set_=more)


def held(
    engine: Engine,
    limit: int,
    before: int | None = None,
    failure: str | None = None,
    source: str | None = None,
    waiting: bool = False,
) -> list[Held]:
    """The newest rows; ``before`` an id, of one failure or source, or only those that wait."""
    query = select(*COLUMNS).order_by(quarantine.c.id.desc()).limit(limit)
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
    query = select(*COLUMNS).where(names).order_by(quarantine.c.id).execution_options(yield_per=AT_ONCE)
    found = []
    for row in connection.execute(query).mappings():
        if person_in(Refused(row["source"], row["kind"], "", json.loads(row["body"]))) == user_id:
            found.append(dict(row))
    return found


def find_held(engine: Engine, number: int) -> Held | None:
    """One row, or None."""
    query = select(*COLUMNS).where(quarantine.c.id == number)
    with engine.connect() as connection:
        row = connection.execute(query).mappings().one_or_none()
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

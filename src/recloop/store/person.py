"""What is known of one person, for themselves; who looked at it; and how long it is kept."""

import json
from pathlib import Path

from sqlalchemy import Column, ColumnElement, Engine, Table, func, or_, select

from recloop.schema import now_us
from recloop.settings.params import KeepDaysParams
from recloop.store.consent import NOBODY, NOBODY_TO_ASK, withdrawn
from recloop.store.engine import recall
from recloop.store.personal import open_personal
from recloop.store.quarantine import held_of
from recloop.store.tables import (
    accesses,
    consents,
    events,
    exposures,
    impressions,
    quarantine,
    users,
)
from recloop.store.vault import Vault

DAY = 86_400_000_000  # µs
AT_ONCE = 5000  # rows of one transaction, so that nobody waits for long


def note_access(engine: Engine, who: str, what: str, *people: str) -> None:
    """Write down that ``who`` (a token, or a user of the machine) did ``what`` with these people's data."""
    row = {"who": who[:64], "what": what[:32], "ts": now_us()}
    if people:
        with engine.begin() as connection:
            connection.execute(accesses.insert(), [row | {"user_id": one} for one in people])


def export(engine: Engine, vault: Vault, user_id: str) -> dict:
    """All that is known of a person, in plain values for JSON; their sealed data is opened.

    Raises:
        StoreError: the sealed data does not open.
    """
    found: dict = {"user_id": user_id, "account": vault.accounts([user_id]).get(user_id)}
    found["personal"] = open_personal(engine, vault, user_id)
    with engine.connect() as connection:
        for table in (users, consents, impressions, events, exposures, accesses):
            query = select(table).where(table.c.user_id == user_id).order_by(*table.primary_key)
            found[table.name] = [dict(row) for row in connection.execute(query).mappings()]
        found["refused"] = held_of(connection, user_id)
    for row in found["users"]:
        row["attributes"] = json.loads(row["attributes"])
    return found


def tidy(engine: Engine, keep: KeepDaysParams, home: Path, now: int | None = None) -> dict[str, int]:
    """Delete what has been kept long enough; how many rows, by table, and backups.

    The log of a generated or a published source is kept: nobody is in it. The last row of the log stays, so
    that its number is not given away again.
    """
    now = now_us() if now is None else now
    old = {name: now - days * DAY for name, days in keep.model_dump().items()}
    counts = {
        "quarantine": _delete(engine, quarantine, quarantine.c.ts < old["quarantine"], quarantine.c.id),
        "accesses": _delete(engine, accesses, accesses.c.ts < old["accesses"], accesses.c.id),
    }
    if (recall(engine, "source") or "own") not in NOBODY_TO_ASK:
        gone = withdrawn(old["withdrawn"])
        for table in (impressions, events, exposures):
            due = or_(table.c.ts < old["log"], table.c.user_id.in_(gone)) & (table.c.user_id != NOBODY)
            number = table.c.seq if "seq" in table.c else None
            if number is not None:
                due &= number < select(func.max(number)).scalar_subquery()
            counts[table.name] = _delete(engine, table, due, number)
    backups = [file for file in (home / "backups").glob("*") if file.stat().st_mtime * 1e6 < old["backups"]]
    for file in backups:
        file.unlink()
    return counts | {"backups": len(backups)}


def _delete(engine: Engine, table: Table, due: ColumnElement, number: Column | None) -> int:
    """Rows by rows, where they have numbers."""
    total = 0
    while True:
        with engine.begin() as connection:
            chosen = due if number is None else number.in_(select(number).where(due).limit(AT_ONCE))
            gone = connection.execute(table.delete().where(chosen)).rowcount
        total += gone
        if number is None or gone < AT_ONCE:
            return total

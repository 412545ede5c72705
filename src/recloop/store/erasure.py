"""Erasure in the databases: the person's key, rows and consents go; a receipt that names nobody stays.

It is done twice. ``begin`` withdraws every consent, destroys the key and deletes the rows; what a gateway had
in hand just then may still come in. ``finish`` deletes again, forgets who it was, and closes the receipt.
What lies in files, and names in the rows of others, go between the two (``flows.erasure``).
"""

import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, Text, func, inspect, or_, select

from recloop.schema import now_us
from recloop.store.compact import compact
from recloop.store.consent import NOBODY, PURPOSES, TRAINING, set_consents
from recloop.store.engine import connect_to
from recloop.store.errors import StoreError
from recloop.store.names import mentions
from recloop.store.others import forget_mentions
from recloop.store.tables import accesses, consents, erasures
from recloop.store.vault import Vault

IN_HAND = 15_000_000  # µs: longer than a gateway works on one request
KEPT = {"accesses", "erasures"}  # who looked at the data is kept, under the receipt's number
NUMBERED = ("impressions", "events")  # numbers that a watermark counts on
AT_ONCE = 500  # refused rows


@dataclass(frozen=True)
class Receipt:
    """What came of a wish to be erased.

    Attributes:
        receipt: its number, random.
        begun: µs since 1970; from then on nothing of the person is stored or used.
        done: when nothing was left; None before.
        counts: rows that went, by table.
    """

    receipt: str
    begun: int
    done: int | None
    counts: dict[str, int]


def begin(engine: Engine, vault: Vault, user_id: str) -> Receipt:
    """Stop all use of what is known of a person, destroy their key and delete their rows.

    Again for the same person before its end: the same receipt.
    """
    with engine.connect() as connection:
        found = connection.execute(select(erasures).where(erasures.c.user_id == user_id)).one_or_none()
    row: dict[str, Any]
    if found is None:
        set_consents(engine, user_id, dict.fromkeys(PURPOSES, False))
        row = {"receipt": secrets.token_hex(16), "user_id": user_id, "counts": "{}", "begun": now_us()}
        with engine.begin() as connection:
            connection.execute(erasures.insert(), row)
    else:
        row = dict(found._mapping)
    keys, accounts = vault.destroy_key(user_id), vault.accounts([user_id]).values()
    gone = purge(engine, user_id, {"consents"}, accounts)
    return note(engine, row["receipt"], {"keys": keys} | gone)


def note(engine: Engine, receipt: str, counts: dict[str, int], **values: Any) -> Receipt:
    """Add to what a receipt counts, and set its other columns."""
    here = erasures.c.receipt == receipt
    values["counts"] = json.dumps(_add(find_receipt(engine, receipt).counts, counts))
    with engine.begin() as connection:
        connection.execute(erasures.update().where(here).values(values))
    return find_receipt(engine, receipt)


def pending(engine: Engine) -> list[tuple[str, str]]:
    """Receipts that are not done, and whose they are."""
    query = select(erasures.c.receipt, erasures.c.user_id).where(erasures.c.done.is_(None))
    with engine.connect() as connection:
        return [(row.receipt, row.user_id) for row in connection.execute(query.order_by(erasures.c.id))]


def find_receipt(engine: Engine, receipt: str) -> Receipt:
    """The receipt of that number.

    Raises:
        StoreError: there is none.
    """
    with engine.connect() as connection:
        row = connection.execute(select(erasures).where(erasures.c.receipt == receipt)).one_or_none()
    if row is None:
        raise StoreError(f"there is no receipt {receipt}")
    return Receipt(row.receipt, row.begun, row.done, json.loads(row.counts))


def finish(engine: Engine, vault: Vault, receipt: str, user_id: str) -> Receipt:
    """Delete what came in meanwhile, the consents and the link to the account, and close the receipt."""
    with engine.begin() as connection:
        moved = accesses.update().where(accesses.c.user_id == user_id).values(user_id=receipt)
        connection.execute(moved)
        mark = {"user_id": NOBODY, "purpose": TRAINING, "granted": False, "version": 1, "ts": now_us()}
        connection.execute(consents.insert(), mark)  # keeps the numbers growing, and says that data went
    accounts = vault.accounts([user_id]).values()
    counts = {"keys": vault.destroy_key(user_id)} | purge(engine, user_id, accounts=accounts)
    counts["pseudonyms"] = vault.forget_account(user_id)
    closed = note(engine, receipt, counts, user_id=None, done=now_us())
    compact(engine)
    return closed


def reopen(engine: Engine, receipt: str, user_id: str) -> Receipt:
    """Take an end back: traces were found after it, and the next run tries again."""
    return note(engine, receipt, {}, user_id=user_id, done=None)


def purge(
    engine: Engine, user_id: str, keep: Iterable[str] = (), accounts: Iterable[str] = ()
) -> dict[str, int]:
    """Delete a person's rows from all tables, of a store of whatever version; how many, by table.

    ``accounts`` of the person stand in no row but in refused ones that came as nobody could read them.
    """
    counts: dict[str, int] = {}
    words = [user_id, *accounts]
    with engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            table = Table(name, MetaData(), autoload_with=connection)
            if name == "quarantine":
                counts[name] = _delete_mentions(connection, table, words)
            elif "user_id" in table.c and name not in KEPT | set(keep):
                if name in NUMBERED:
                    counts[name] = _keep_last_number(connection, table, user_id)
                gone = connection.execute(table.delete().where(table.c.user_id == user_id)).rowcount
                counts[name] = counts.get(name, 0) + gone
    compact(engine)
    return {name: count for name, count in counts.items() if count}


def purge_backup(file: Path, receipt: str, user_id: str, accounts: Sequence[str] = ()) -> None:
    """Delete a person from a copy of the store, which stays as old as it is and goes in its time."""
    age, copy = file.stat(), connect_to(f"sqlite:///{file}")
    purge(copy, user_id, accounts=accounts)
    forget_mentions(copy, [user_id, *accounts])
    with copy.begin() as connection:
        for name in KEPT & {*inspect(connection).get_table_names()}:
            table = Table(name, MetaData(), autoload_with=connection)
            known = receipt if name == "accesses" else None
            connection.execute(table.update().where(table.c.user_id == user_id).values(user_id=known))
    compact(copy, wholly=True)
    copy.dispose()
    os.utime(file, ns=(age.st_atime_ns, age.st_mtime_ns))


def _keep_last_number(connection: Connection, table: Table, user_id: str) -> int:
    """Empty the last row instead of deleting it: SQLite would give its number away again."""
    last = connection.execute(select(func.max(table.c.seq))).scalar()
    if connection.execute(select(table.c.user_id).where(table.c.seq == last)).scalar() != user_id:
        return 0
    empty = {column.name: None for column in table.columns if column.nullable}
    name = f"{NOBODY}-{secrets.token_hex(8)}"
    words: dict[str, Any] = {"user_id": NOBODY, "item_id": NOBODY, "policy": NOBODY}
    words |= {"event_id": name, "kind": "view", "value": 0.0, "ts": now_us()}
    words |= {"slot": "", "device": "unknown", "partial": True}
    if "event_id" not in table.c:
        words["request_id"] = name
    values = empty | {key: value for key, value in words.items() if key in table.c}
    return connection.execute(table.update().where(table.c.seq == last).values(values)).rowcount


def _delete_mentions(connection: Connection, table: Table, words: Sequence[str]) -> int:
    """Refused rows are kept as they came: those that name the person go, however that is written."""
    texts = [column for column in table.columns if isinstance(column.type, Text)]
    signs = [*words, "\\u", "%"]  # of the word, or of one that is written in escapes
    maybe = or_(*[column.contains(sign, autoescape=True) for column in texts for sign in signs])
    query = select(table.c.id, *texts).where(maybe).execution_options(yield_per=AT_ONCE)
    found = [
        row.id for row in connection.execute(query) if any(mentions(text or "", words) for text in row[1:])
    ]
    for start in range(0, len(found), AT_ONCE):
        connection.execute(table.delete().where(table.c.id.in_(found[start : start + AT_ONCE])))
    return len(found)


def _add(one: dict[str, int], two: dict[str, int]) -> dict[str, int]:
    return {name: one.get(name, 0) + two.get(name, 0) for name in sorted({*one, *two})}

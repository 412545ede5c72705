"""The item database and the log at size, on SQLite: putting items, searching them, adding acts, snapshots.

The full run holds 1,000,000 items and 10,000,000 events, ``--quick`` 20,000 and 200,000. The peer is SQLite
used directly: a table of items beside an FTS5 index (prefix questions, as ours are), rows put by
``executemany``, at the same durability. It keeps no versions and looks at no row before it replaces it.
Titles have six words of 20,000, drawn with skew: the most common is in a tenth of all items. A whole snapshot
is what an incremental one saves. The events at the start are written by SQL; what is measured comes on top.
"""

import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
from sqlalchemy import Engine, text

from benchmarks.race import SEED, Row, main, race
from recloop.schema import Event, Item
from recloop.store import add_items, append, items_at, open_store, search_items
from recloop.store.snapshot import watermark, write_snapshot

FULL, QUICK = (1_000_000, 10_000_000), (20_000, 200_000)  # items and events
REPEATS, QUICK_REPEATS = 5, 3
ITEMS_AT_ONCE = 20_000  # as an import has it
AT_ONCE = 5000
WORDS = np.array([f"{a}{b}{c}" for a in "bdfgklmnpr" for b in ("a", "or", "e", "ul") for c in range(500)])
QUESTIONS = {
    "a rare word": lambda rng: [str(rng.choice(WORDS[15_000:]))],
    "a common word": lambda rng: [str(rng.choice(WORDS[:50]))],
    "two words": lambda rng: [str(one) for one in WORDS[(20_000 * rng.random(2) ** 3).astype(int)]],
    "the beginning of a word": lambda rng: [str(rng.choice(WORDS))[:3]],
}
PEER = f"SQLite {sqlite3.sqlite_version} FTS5"


def titles(rng: np.random.Generator, rows: int) -> list[str]:
    """Six words each; a word's chance falls with its place."""
    places = (len(WORDS) * rng.random((rows, 6)) ** 3).astype(int)
    return [" ".join(row) for row in WORDS[places]]


class Stock:
    """New items without end, as records."""

    def __init__(self) -> None:
        self._rng, self._number = np.random.default_rng(SEED), 0

    def take(self, rows: int) -> list[Item]:
        """The next ones."""
        first, self._number = self._number, self._number + rows
        return [
            Item(item_id=f"i{first + n:08}", title=title, category=f"c{n % 20}", price=1.0, created_at=1)
            for n, title in enumerate(titles(self._rng, rows))
        ]


class Peer:
    """A table of items, an FTS5 index and a log in a SQLite file."""

    def __init__(self, file: Path) -> None:
        self._to = sqlite3.connect(file)
        self._to.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
            "CREATE TABLE items (n INTEGER PRIMARY KEY, item_id TEXT UNIQUE, title TEXT, category TEXT,"
            " price REAL);"
            "CREATE VIRTUAL TABLE words USING fts5(title, category, content='');"
        )

    def put(self, offers: list[Item]) -> None:
        """New items, in one transaction."""
        numbers = [int(offer.item_id[1:]) for offer in offers]
        rows = [(n, o.item_id, o.title, o.category, o.price) for n, o in zip(numbers, offers, strict=True)]
        with self._to:
            self._to.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)
            self._to.executemany(
                "INSERT INTO words (rowid, title, category) VALUES (?, ?, ?)",
                [(n, o.title, o.category) for n, o in zip(numbers, offers, strict=True)],
            )

    def search(self, words: list[str]) -> list[tuple]:
        """The first twenty that have words beginning so."""
        asked = " ".join(f'"{word}"*' for word in words)
        query = "SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid LIMIT 20"
        return self._to.execute(f"SELECT * FROM items WHERE n IN ({query})", [asked]).fetchall()


class PlainLog:
    """The log's table of events in a SQLite file, with its indexes."""

    def __init__(self, file: Path) -> None:
        self._to = sqlite3.connect(file)
        self._to.execute("PRAGMA synchronous=FULL")

    def append(self, acts: list[Event]) -> None:
        """In one transaction; repeats are left out."""
        rows = [(a.event_id, a.user_id, a.item_id, str(a.kind), a.value, a.request_id, a.ts) for a in acts]
        with self._to:
            self._to.executemany(
                "INSERT OR IGNORE INTO events (event_id, user_id, item_id, kind, value, request_id, ts)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                rows,
            )


def events(first: int, rows: int) -> list[Event]:
    """Acts with numbers from ``first`` on."""
    return [
        Event(event_id=f"e{n}", user_id=f"u{n % 99_991}", item_id=f"i{n % 19_997:08}", kind="click", ts=n)
        for n in range(first, first + rows)
    ]


def fill_log(engine: Engine, rows: int) -> None:
    """The same acts as ``events`` makes, by SQL."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO events (event_id, user_id, item_id, kind, value, ts)"
                " WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < :last)"
                " SELECT 'e' || n, 'u' || (n % 99991), printf('i%08d', n % 19997), 'click', 1.0, n FROM c"
            ),
            {"last": rows - 1},
        )


def alone(case: str, unit: str, work: float, act: Callable[[], object]) -> Row:
    """What no peer does the same, once."""
    begun = time.perf_counter()
    act()
    rate = work / (time.perf_counter() - begun)
    return Row(case, unit, rate, None, None, None, None, None, "higher", None)


def catalogue(folder: Path, rows: int, repeats: int) -> Iterator[Row]:
    """Putting items and searching them."""
    engine, peer, stock = open_store(f"sqlite:///{folder}/s.db"), Peer(folder / "peer.db"), Stock()
    offers = stock.take(rows)

    def fill() -> None:
        for start in range(0, rows, ITEMS_AT_ONCE):
            add_items(engine, offers[start : start + ITEMS_AT_ONCE])

    yield alone(f"put {rows:,} items into an empty store", "items/s", rows, fill)
    for start in range(0, rows, ITEMS_AT_ONCE):
        peer.put(offers[start : start + ITEMS_AT_ONCE])
    both = [stock.take(ITEMS_AT_ONCE) for _ in range(repeats + 1)]
    mine, other = iter(both), iter(both)
    yield race(
        f"put {ITEMS_AT_ONCE:,} new beside {rows:,}", lambda: add_items(engine, next(mine)), PEER,
        lambda: peer.put(next(other)), ITEMS_AT_ONCE, "items/s", repeats,
    )  # fmt: skip
    some, prices = offers[:AT_ONCE], count(2)

    def reprice() -> None:
        price = float(next(prices))
        add_items(engine, [offer.model_copy(update={"price": price}) for offer in some])

    yield alone(f"change {AT_ONCE:,} prices of {rows:,}", "items/s", AT_ONCE, reprice)
    moments = [(offer.item_id, 10**15) for offer in some]
    yield alone(
        f"look up {AT_ONCE:,} items as of a time", "items/s", AT_ONCE, lambda: items_at(engine, moments)
    )
    for name, make in QUESTIONS.items():
        rng = np.random.default_rng(SEED)
        asked = [make(rng) for _ in range(50)]
        for words in asked:
            same = {one.item_id for one in search_items(engine, " ".join(words))}
            if same != {row[1] for row in peer.search(words)}:
                raise SystemExit(f"{words}: we and {PEER} find different items")
        yield race(
            f"search {name} in {rows:,}",
            lambda asked=asked: [search_items(engine, " ".join(words)) for words in asked],
            PEER,
            lambda asked=asked: [peer.search(words) for words in asked],
            len(asked),
            "questions/s",
            repeats,
        )
    engine.dispose()


def log(folder: Path, rows: int, repeats: int) -> Iterator[Row]:
    """Adding acts to a long log, and snapshots of it."""
    os.environ["RECLOOP_CONSENT"] = "assumed"  # else a snapshot has nobody's rows
    engine = open_store(f"sqlite:///{folder}/log.db")
    add_items(engine, Stock().take(20_000))
    fill_log(engine, rows)
    engine.dispose()
    shutil.copy(folder / "log.db", folder / "plain.db")
    engine, plain = open_store(f"sqlite:///{folder}/log.db"), PlainLog(folder / "plain.db")
    both = [events(rows + n * AT_ONCE, AT_ONCE) for n in range(repeats + 1)]
    mine, other = iter(both), iter(both)
    yield race(
        f"append {AT_ONCE:,} acts to {rows:,}", lambda: append(engine, acts=next(mine)),
        f"SQLite {sqlite3.sqlite_version}", lambda: plain.append(next(other)), AT_ONCE, "acts/s", repeats,
    )  # fmt: skip
    made = write_snapshot(engine, watermark(engine), folder / "snapshot")
    if made.rows["events"] < rows:
        raise SystemExit(f"the snapshot has {made.rows['events']:,} of {rows:,} events")
    numbers, fresh = count(rows + (repeats + 1) * AT_ONCE, AT_ONCE), count()

    def grow() -> None:
        append(engine, acts=events(next(numbers), AT_ONCE))
        write_snapshot(engine, watermark(engine), folder / "snapshot")

    def whole() -> None:
        target = folder / f"snapshot-{next(fresh)}"
        write_snapshot(engine, watermark(engine), target)
        shutil.rmtree(target)

    times = min(repeats, 3) if rows > 1_000_000 else repeats
    case = f"snapshot after {AT_ONCE:,} more of {rows:,}"
    yield race(case, grow, "itself, from nothing", whole, 1, "snapshots/s", times)
    engine.dispose()


def cases(repeats: int) -> Iterator[Row]:
    """At the size that the number of repeats stands for."""
    items, acts = FULL if repeats == REPEATS else QUICK
    with tempfile.TemporaryDirectory(dir=os.environ.get("RECLOOP_HOME", ".")) as name:
        yield from catalogue(Path(name), items, repeats)
        yield from log(Path(name), acts, repeats)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=REPEATS, quick=QUICK_REPEATS)

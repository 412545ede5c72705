"""A snapshot: the store up to a watermark, as Parquet files whose bytes depend on the rows alone.

It is incremental: of a log, only files that are new or have changed are written (``store.parts``).
"""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
from sqlalchemy import Engine, Select, Table, func, select, text
from sqlalchemy.exc import OperationalError

from recloop.schema.arrow import ITEM_VERSIONS, TABLES
from recloop.store.consent import TRAINING, Terms, assumed_here, may
from recloop.store.engine import recall
from recloop.store.errors import StoreError
from recloop.store.parts import Manifest, write_parts, write_table
from recloop.store.tables import consents, events, impressions, item_versions, items, users

TRIES = 10
LOCKED = "55P03"  # PostgreSQL: no lock within its lock_timeout


@dataclass(frozen=True)
class Watermark:
    """How far the log had come: what a data version is made from.

    Attributes:
        source: where the store's data comes from (``market``, ``movielens``, ``open-bandit``, ``own``).
        impressions: last sequence number of the impressions.
        events: last sequence number of the events.
        catalogue: sha256 over users and how far the items have changed: a changed profile or price is a new
            version.
        consents: number of the last word on consent, so that a withdrawal is a new version.
        versions: last sequence number of the items' versions; None in a mark from before there were any.
    """

    source: str
    impressions: int
    events: int
    catalogue: str
    consents: int = 0
    versions: int | None = None

    def save(self, path: Path) -> None:
        """Write as JSON; the same watermark gives the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Watermark":
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Snapshot:
    """What was written.

    Attributes:
        rows: by table.
        written: files of logs that the whole snapshot before did not have.
        parts: files of logs.
    """

    rows: dict[str, int]
    written: int
    parts: int


def watermark(engine: Engine) -> Watermark:
    """Where the log stands now: no row will come any more whose number is not above it.

    Raises:
        StoreError: somebody has been writing in one transaction for too long, so that nobody can tell.
    """
    digest = hashlib.sha256()
    last = _settled(engine)
    with engine.connect() as connection:
        for row in connection.execute(select(users).order_by(*users.primary_key)):
            digest.update(repr(tuple(row)).encode())
        digest.update(f"items {last[2]}".encode())
        said = connection.execute(select(func.max(consents.c.id))).scalar() or 0
    source = recall(engine, "source") or "own"
    return Watermark(source, last[0], last[1], digest.hexdigest(), said, last[2])


def count_rows(engine: Engine, table: Table, above: int, last: int) -> int:
    """Rows of a log with numbers above one and up to another; there are numbers that no row has."""
    query = select(func.count()).select_from(table).where(table.c.seq > above, table.c.seq <= last)
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def _settled(engine: Engine) -> list[int]:
    """The last numbers of impressions, events and items' versions below which all have come.

    PostgreSQL numbers a row when it is inserted and shows it when its transaction ends, so that a smaller
    number can show later. Its SHARE lock waits until who writes has ended, and holds others up meanwhile:
    half a second at most, which is shorter than the second after which a deadlock is looked for.
    """
    newest = [select(func.max(t.c.seq)) for t in (impressions, events, item_versions)]
    for attempt in range(TRIES):
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
                    connection.execute(text("LOCK TABLE impressions, events, item_versions IN SHARE MODE"))
                return [connection.execute(query).scalar() or 0 for query in newest]
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCKED:
                raise
        time.sleep(0.2 * attempt)
    raise StoreError(
        "somebody writes to the log in one long transaction, as an import does: try again after its end"
    )


def write_snapshot(engine: Engine, mark: Watermark, directory: Path, terms: Terms | None = None) -> Snapshot:
    """Write the store up to the watermark: ``users.parquet`` and ``items.parquet``, and of each log a folder
    of files (``store.parts``), of which those that are there already and are right stay as they are.

    ``items`` are as they were at the watermark; ``item_versions`` is what they were before. Of people only
    rows of those who let them be learnt from (``store.consent``), by what they have said until now.
    Impressions and events of bots and colleagues stay in the store.
    """
    directory.mkdir(parents=True, exist_ok=True)
    before = Manifest.load(directory)
    manifest = Manifest({"source": mark.source, "schema": _schema()})
    rows: dict[str, int] = {}
    with engine.connect() as connection:
        agreed = {
            table.name: may(connection, table.c.user_id, TRAINING, terms or {}, assumed_here())
            for table in (users, impressions, events)
        }
        for name, query in (("users", _users().where(agreed["users"])), ("items", _items(mark))):
            rows[name] = write_table(connection, query, TABLES[name], directory / f"{name}.parquet")
    logs = {impressions: mark.impressions, events: mark.events, item_versions: mark.versions or 0}
    for table, last in logs.items():
        schema = TABLES.get(table.name, ITEM_VERSIONS)
        chosen = agreed[table.name] & table.c.traffic.is_(None) if table.name in agreed else None
        write_parts(engine, table, schema, last, directory, manifest, before, chosen)
        rows[table.name] = manifest.rows(table.name)
    manifest.save(directory)
    return Snapshot(rows, len(manifest.new), len(manifest.parts))


def _users() -> Select:
    return select(*[users.c[name] for name in TABLES["users"].names]).order_by(users.c.user_id)


def _items(mark: Watermark) -> Select:
    """The items at the watermark, the removed ones too, since the log speaks of them; now for an old mark."""
    if mark.versions is None:
        return select(*[items.c[name] for name in TABLES["items"].names]).order_by(items.c.item_id)
    newest = select(func.max(item_versions.c.seq)).where(item_versions.c.seq <= mark.versions)
    columns = [item_versions.c[name] for name in TABLES["items"].names]
    query = select(*columns).where(item_versions.c.seq.in_(newest.group_by(item_versions.c.item_id)))
    return query.order_by(item_versions.c.item_id)


def _schema() -> str:
    schemas = [str(schema) for schema in (*TABLES.values(), ITEM_VERSIONS)]
    return hashlib.sha256("\n".join([*schemas, pa.__version__]).encode()).hexdigest()

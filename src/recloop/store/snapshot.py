"""A snapshot: the store up to a watermark, as Parquet files whose bytes depend on the rows alone."""

import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine, func, select, text
from sqlalchemy.exc import OperationalError

from recloop.schema.arrow import TABLES
from recloop.store.consent import TRAINING, Terms, assumed_here, may
from recloop.store.engine import recall
from recloop.store.errors import StoreError
from recloop.store.tables import consents, events, impressions, items, users

TRIES = 10
LOCKED = "55P03"  # PostgreSQL: no lock within its lock_timeout


@dataclass(frozen=True)
class Watermark:
    """How far the log had come: what a data version is made from.

    Attributes:
        source: where the store's data comes from (``market``, ``movielens``, ``open-bandit``, ``own``).
        impressions: last sequence number of the impressions.
        events: last sequence number of the events.
        catalogue: sha256 over users and items, so that a changed profile or price is a new version.
        consents: number of the last word on consent, so that a withdrawal is a new version.
    """

    source: str
    impressions: int
    events: int
    catalogue: str
    consents: int = 0

    def save(self, path: Path) -> None:
        """Write as JSON; the same watermark gives the same bytes."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, sort_keys=True) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Watermark":
        """Read what ``save`` wrote."""
        return cls(**json.loads(path.read_text()))


def watermark(engine: Engine) -> Watermark:
    """Where the log stands now: no row will come any more whose number is not above it.

    Raises:
        StoreError: somebody has been writing in one transaction for too long, so that nobody can tell.
    """
    digest = hashlib.sha256()
    last = _settled(engine)
    with engine.connect() as connection:
        for table in (users, items):
            for row in connection.execute(select(table).order_by(*table.primary_key)):
                digest.update(repr(tuple(row)).encode())
        said = connection.execute(select(func.max(consents.c.id))).scalar() or 0
    return Watermark(recall(engine, "source") or "own", last[0], last[1], digest.hexdigest(), said)


def _settled(engine: Engine) -> list[int]:
    """The last numbers of impressions and events below which all have come.

    PostgreSQL numbers a row when it is inserted and shows it when its transaction ends, so that a smaller
    number can show later. Its SHARE lock waits until who writes has ended, and holds others up meanwhile:
    half a second at most, which is shorter than the second after which a deadlock is looked for.
    """
    newest = [select(func.max(t.c.seq)) for t in (impressions, events)]
    for attempt in range(TRIES):
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SET LOCAL lock_timeout = '500ms'"))
                    connection.execute(text("LOCK TABLE impressions, events IN SHARE MODE"))
                return [connection.execute(query).scalar() or 0 for query in newest]
        except OperationalError as error:
            if getattr(error.orig, "sqlstate", None) != LOCKED:
                raise
        time.sleep(0.2 * attempt)
    raise StoreError(
        "somebody writes to the log in one long transaction, as an import does: try again after its end"
    )


def write_snapshot(
    engine: Engine, mark: Watermark, directory: Path, terms: Terms | None = None
) -> dict[str, int]:
    """Write ``users|items|impressions|events.parquet`` up to the watermark; returns rows per table.

    Only rows of people who let them be learnt from (``store.consent``), by what they have said until now.
    Impressions and events of bots and colleagues stay in the store.
    """
    directory.mkdir(parents=True, exist_ok=True)
    limits = {"impressions": mark.impressions, "events": mark.events}
    rows: dict[str, int] = {}
    for table in (users, items, impressions, events):
        schema = TABLES[table.name]
        query = select(*[table.c[name] for name in schema.names])
        if table.name in limits:
            customers = table.c.traffic.is_(None)
            query = query.where(table.c.seq <= limits[table.name], customers).order_by(table.c.seq)
        else:
            query = query.order_by(*table.primary_key)
        rows[table.name] = 0
        with (
            engine.connect() as connection,
            pq.ParquetWriter(directory / f"{table.name}.parquet", schema, compression="zstd") as writer,
        ):
            if "user_id" in table.c:
                agreed = may(connection, table.c.user_id, TRAINING, terms or {}, assumed_here())
                query = query.where(agreed)
            result = connection.execution_options(yield_per=50_000).execute(query)
            for part in result.partitions():
                columns = zip(*part, strict=True)
                arrays = [_array(values, field) for values, field in zip(columns, schema, strict=True)]
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
                rows[table.name] += len(part)
    return rows


def _array(values: tuple, field: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(field.type):
        return pa.array(values, pa.int64()).cast(field.type)
    return pa.array(values, field.type)

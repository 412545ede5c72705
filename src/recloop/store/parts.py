"""A log as a folder of Parquet files of so many numbers each: only what is new, or has changed, is written.

The borders are multiples of ``NUMBERS``, so that the files depend on the rows alone, and not on how often a
snapshot was taken. A file that is full stays as it is, byte for byte; DVC keeps it once for all versions.
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, func, select, true
from tqdm import tqdm

NUMBERS = 1 << 17
AT_ONCE = 50_000
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Part:
    """One file.

    Attributes:
        rows: in the file.
        seen: sha256 over the store's number of rows there, its first and last one, and the numbers of those
            that were chosen: rows that came or went since, and another store, have another.
        sha256: of the file.
    """

    rows: int
    seen: str
    sha256: str


@dataclass
class Manifest:
    """What a snapshot holds of its logs; ``scope`` says by which rule rows were chosen and written.

    ``new``: files that the last whole snapshot did not have; of one that was killed, they are noted too.
    """

    scope: dict
    parts: dict[str, Part] = field(default_factory=dict)
    new: set[str] = field(default_factory=set)

    def save(self, folder: Path, before: "Manifest | None" = None, whole: bool = True) -> None:
        """Write as JSON, with what ``before`` has more; the same parts of a whole one give the same bytes."""
        left = before.parts if before and before.scope == self.scope else {}
        parts = {name: asdict(part) for name, part in (left | self.parts).items()}
        found: dict = {"scope": self.scope, "parts": parts}
        if not whole:
            found["new"] = sorted(self.new)
        replace(folder / MANIFEST, json.dumps(found, indent=1, sort_keys=True).encode() + b"\n")

    @classmethod
    def load(cls, folder: Path) -> "Manifest | None":
        """The manifest of an earlier snapshot, or None where there is none that can be used."""
        try:
            found = json.loads((folder / MANIFEST).read_text())
            parts = {name: Part(**part) for name, part in found["parts"].items()}
            return cls(found["scope"], parts, set(found.get("new", ())))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def rows(self, table: str) -> int:
        """How many rows of a table all its files have."""
        return sum(part.rows for name, part in self.parts.items() if name.startswith(f"{table}.parquet/"))


def write_parts(
    engine: Engine,
    table: Table,
    schema: pa.Schema,
    last: int,
    folder: Path,
    manifest: Manifest,
    before: Manifest | None,
    chosen: ColumnElement[bool] | None = None,
) -> None:
    """Write ``<table>.parquet/NNNNNN.parquet`` of the rows up to number ``last``, and note them.

    What ``before`` has with the same scope and the same rows, and is on the disk as it says, is left alone.
    A log without rows gets one file without rows.
    """
    place = folder / f"{table.name}.parquet"
    if place.is_file():  # as it was before there were parts
        place.unlink()
    place.mkdir(parents=True, exist_ok=True)
    count = max(1, -(-last // NUMBERS))
    names = [f"{table.name}.parquet/{number:06}.parquet" for number in range(count)]
    bar = tqdm(names, desc=f"snapshot {table.name}", unit="file", mininterval=1, disable=None)
    for number, name in enumerate(bar):
        within = (table.c.seq > number * NUMBERS) & (table.c.seq <= min(last, (number + 1) * NUMBERS))
        with engine.connect() as connection:
            seen = _seen(connection, table, schema.names, within, chosen)
            old = before.parts.get(name) if before and before.scope == manifest.scope else None
            if old and old.seen == seen and _sha256(folder / name) == old.sha256:
                manifest.parts[name] = old
                manifest.new |= {name} & before.new if before else set()
                continue
            query = select(*[table.c[column] for column in schema.names]).where(within)
            query = query.where(true() if chosen is None else chosen).order_by(table.c.seq)
            rows = write_table(connection, query, schema, folder / name)
        manifest.parts[name] = Part(rows, seen, _sha256(folder / name))
        manifest.new.add(name)
        manifest.save(folder, before, whole=False)  # who is killed goes on from here
    for file in place.iterdir():
        if f"{table.name}.parquet/{file.name}" not in manifest.parts:
            file.unlink()


def write_table(connection: Connection, query: Select, schema: pa.Schema, file: Path) -> int:
    """Write a query's rows as one file; how many there were. What was there is replaced, never written into:
    DVC may share it with its cache."""
    fresh, rows = file.with_name(f"{file.name}.part"), 0
    with pq.ParquetWriter(fresh, schema, compression="zstd") as writer:
        for part in connection.execution_options(yield_per=AT_ONCE).execute(query).partitions():
            columns = zip(*part, strict=True)
            arrays = [_array(values, column) for values, column in zip(columns, schema, strict=True)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += len(part)
    fresh.replace(file)
    return rows


def replace(file: Path, content: bytes) -> None:
    """Put content in a file's place, at once."""
    fresh = file.with_name(f"{file.name}.part")
    fresh.write_bytes(content)
    os.replace(fresh, file)


def tree_hash(folder: Path) -> str:
    """The name that DVC gives a folder's content: the md5 over its files' md5s, ending in ``.dir``."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    rows = [{"md5": _digest(file, "md5"), "relpath": file.relative_to(folder).as_posix()} for file in files]
    rows.sort(key=lambda row: row["relpath"])
    return hashlib.md5(json.dumps(rows, sort_keys=True).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _seen(
    connection: Connection,
    table: Table,
    names: list[str],
    within: ColumnElement[bool],
    chosen: ColumnElement[bool] | None,
) -> str:
    query = select(func.count(), func.min(table.c.seq), func.max(table.c.seq)).where(within)
    held, first, last = connection.execute(query).one()
    query = select(*[table.c[name] for name in names]).where(table.c.seq.in_([first, last]))
    rows = connection.execute(query.order_by(table.c.seq))
    digest = hashlib.sha256(repr([held, *(tuple(row) for row in rows)]).encode())
    if chosen is not None:
        query = select(table.c.seq).where(within, chosen).order_by(table.c.seq)
        digest.update(np.fromiter(connection.execute(query).scalars(), np.int64).tobytes())
    return digest.hexdigest()


def _sha256(file: Path) -> str:
    return _digest(file, "sha256") if file.exists() else ""


def _digest(file: Path, kind: str) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()


def _array(values: tuple, column: pa.Field) -> pa.Array:
    if pa.types.is_timestamp(column.type):
        return pa.array(values, pa.int64()).cast(column.type)
    return pa.array(values, column.type)

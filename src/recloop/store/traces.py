"""Where a name still stands, in files of any kind below some folders: shows that an erasure is whole."""

import mmap
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.store.names import LONG, entitled, forms, named
from recloop.store.packed import FAULTS, Sealed, kind_of, members, unpacked

TEXTS = "('text', 'blob')"
WIDE = "utf-16-le", "utf-16-be", "utf-32-le"  # as Windows and numpy write text


@dataclass(frozen=True)
class Trace:
    """A name that was found, and where: a file, and what within it."""

    path: Path
    within: str


def traces(
    names: Sequence[str], roots: Iterable[Path], columns: Collection[str] | None = None
) -> list[Trace]:
    """Every file below the roots that holds one of the names, or has it in its own name.

    Looked into: text and any other bytes; rows of SQLite's databases; Parquet files; what is compressed, and
    archives, also within each other, also as numpy writes text. A name of fewer than 16 characters is found
    in databases' rows, not in their free space and logs, where it would be found in any other word.

    Args:
        columns: of databases and Parquet files; nothing else is looked into then.
    """
    if not names:
        return []
    return [
        Trace(file, within)
        for root in roots
        for file in files_below(root)
        if (within := _within(file, root, names, columns))
    ]


def files_below(root: Path) -> Iterator[Path]:
    """The root, where it is a file; else all files below, also where links lead."""
    if root.is_file():
        yield root
    seen: set[tuple[int, int]] = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        here = os.stat(folder)
        if (here.st_dev, here.st_ino) in seen:
            folders.clear()
            continue
        seen.add((here.st_dev, here.st_ino))
        yield from (file for name in files if (file := Path(folder, name)).is_file())


def _within(file: Path, root: Path, names: Sequence[str], columns: Collection[str] | None) -> str:
    """What within the file holds a name; empty where none does, or the file is gone."""
    try:
        if columns is None and entitled(str(file.relative_to(root)), names):
            return "its name"
        with file.open("rb") as handle:
            kind = kind_of(handle)
            if kind == "sqlite" and (found := _in_database(file, names, columns)):
                return found
            if columns is not None:
                return _in_parquet(handle, names, columns) if kind == "parquet" else ""
            if kind == "sqlite" or file.name.endswith(("-wal", "-journal")):
                return _in_bytes(handle, names, plain=False)
            return _in_content(handle, names)
    except FileNotFoundError:
        return ""
    except Sealed as error:
        return str(error)
    except (*FAULTS, sqlite3.Error) as error:
        return f"cannot be read ({type(error).__name__})"


def _in_content(handle: BinaryIO, names: Sequence[str]) -> str:
    kind = kind_of(handle)
    if kind in ("text", "bytes", "sqlite"):
        return _in_bytes(handle, names, plain=kind != "sqlite")
    if kind == "parquet":
        found = _in_parquet(handle, names)
    elif kind == "zip":
        found = _in_archive(handle, names)
    else:
        with unpacked(handle, kind) as content:
            found = _in_content(content, names)
    return found or _in_bytes(handle, names, plain=False)  # in what is noted beside the content


def _in_archive(handle: BinaryIO, names: Sequence[str]) -> str:
    for name, member in members(handle):
        if entitled(name, names):
            return f"the name of {name}"
        if found := _in_content(member, names):
            return name if found == "bytes" else f"{name}: {found}"
    return ""


def _in_bytes(handle: BinaryIO, names: Sequence[str], plain: bool = True) -> str:
    if not handle.seek(0, os.SEEK_END):
        return ""
    with mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return "bytes" if _stands(content, names, plain) else ""


def _stands(content: bytes | mmap.mmap, names: Sequence[str], plain: bool = True) -> bool:
    long = [name for name in names if len(name) >= LONG]
    if any(content.find(name.encode(code)) >= 0 for name in long for code in WIDE):
        return True
    return named(content, names if plain else long)


def _in_database(file: Path, names: Sequence[str], columns: Collection[str] | None) -> str:
    """The rows that hold a name are chosen by SQLite; as bytes, since values are of any kind."""
    signs = [form.encode() for name in names for form in forms(name)]
    signs += [name.encode("utf-32-le") for name in names if len(name) >= LONG]
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=15)) as connection:
        connection.text_factory = bytes
        listed = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        for table in [row[0].decode() for row in listed]:
            kept = [c for c in _columns(connection, table) if columns is None or c in columns]
            for column in kept:
                here = f"CAST({_quoted(column)} AS BLOB)"
                maybe = " OR ".join(f"instr({here}, ?)" for _ in signs)
                query = f"SELECT {here} FROM {_quoted(table)} WHERE typeof({_quoted(column)}) IN {TEXTS}"
                for (value,) in connection.execute(f"{query} AND ({maybe})", signs):
                    if _stands(value, names):
                        return f"table {table}"
    return ""


def _columns(connection: sqlite3.Connection, table: str) -> list[str]:
    rows = connection.execute(f"PRAGMA table_info({_quoted(table)})").fetchall()
    return [row[1].decode() for row in rows]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _in_parquet(handle: BinaryIO, names: Sequence[str], columns: Collection[str] | None = None) -> str:
    handle.seek(0)
    content = pq.ParquetFile(handle)
    if columns is None and named(_said_of(content.schema_arrow), names):
        return "its schema"
    for group in range(content.num_row_groups):
        table = content.read_row_group(group, use_threads=False)
        for name, column in zip(table.column_names, table.columns, strict=True):
            if (columns is None or name in columns) and stands_in(column, names):
                return f"column {name}"
    return ""


def _said_of(schema: pa.Schema) -> bytes:
    """Names of columns, and what is noted of the file and of them."""
    notes = [schema.metadata, *(field.metadata for field in schema)]
    return "\n".join([*schema.names, *(str(note) for note in notes)]).encode()


def stands_in(column: pa.ChunkedArray, names: Sequence[str]) -> bool:
    """Whether one of the names stands in a cell."""
    return any(_stands(text, names) for part in column.chunks for text in _texts(part))


def _texts(values: pa.Array) -> Iterator[bytes]:
    """The different strings of an array, one in a line; also of lists, structs and dictionaries."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary)
    elif pa.types.is_nested(kind):
        for part in values.flatten() if pa.types.is_struct(kind) else _items(values):
            yield from _texts(part)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        yield "\n".join(value or "" for value in values.unique().to_pylist()).encode()
    elif any(check(kind) for check in BINARY):
        yield b"\n".join(value or b"" for value in values.unique().to_pylist())


def _items(values: pa.Array) -> list[pa.Array]:
    return [values.keys, values.items] if pa.types.is_map(values.type) else [values.flatten()]


BINARY = (
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_fixed_size_binary,
    pa.types.is_binary_view,
)

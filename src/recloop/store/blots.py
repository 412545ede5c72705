"""Names are taken out of files: what else a file holds, its kind, schema and age stay as they are."""

import mmap
import os
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from recloop.store.names import blotted, crossed, entitled, named, retitled, whole
from recloop.store.packed import FAULTS, SEALED, kind_of, members, pack, unpacked
from recloop.store.traces import stands_in


def blot(file: Path, names: Sequence[str]) -> bool:
    """Take the names out of a file; whether any stood there that could be taken out.

    Text gets x over them where they stand, so that who appends to it goes on. Parquet, what is compressed and
    archives of either are written beside and renamed. Other bytes, and what cannot be read, are left alone.
    """
    file = file.resolve()
    try:
        age = file.stat()
        with file.open("r+b") as handle:
            kind = kind_of(handle)
            if kind == "text":
                changed = _cross(handle, names)
            elif kind in ("bytes", "sqlite", *SEALED):
                return False
            else:
                changed = _replace(file, handle, names)
        os.utime(file, ns=(age.st_atime_ns, age.st_mtime_ns))
        return changed
    except FAULTS:
        return False


def rename_named(root: Path, names: Sequence[str]) -> int:
    """Take the names out of the names of files and folders below the root; how many were renamed."""
    count = 0
    for folder, folders, files in os.walk(root, topdown=False):
        for name in [*files, *folders]:
            if entitled(name, names):
                fresh = Path(folder, retitled(name, names))
                while fresh.exists():
                    fresh = fresh.with_name(f"x{fresh.name}")
                Path(folder, name).rename(fresh)
                count += 1
    return count


def _replace(file: Path, handle: BinaryIO, names: Sequence[str]) -> bool:
    descriptor, fresh = tempfile.mkstemp(prefix=".", suffix=".blot", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w+b") as target:
            changed = _copy_without(handle, cast(BinaryIO, target), names)
            target.flush()
            os.fsync(target.fileno())
        if changed:
            shutil.copystat(file, fresh)
            owner = file.stat()
            if hasattr(os, "chown") and os.geteuid() == 0:
                os.chown(fresh, owner.st_uid, owner.st_gid)
            Path(fresh).replace(file)
        return changed
    finally:
        Path(fresh).unlink(missing_ok=True)


def _copy_without(source: BinaryIO, target: BinaryIO, names: Sequence[str]) -> bool:
    """Copy a content of any kind without the names; whether one stood there."""
    kind = kind_of(source)
    if kind in ("text", "bytes", "sqlite", *SEALED):
        shutil.copyfileobj(source, target)
        target.flush()
        return kind == "text" and _cross(target, names)
    if kind == "parquet":
        return _parquet(source, target, names)
    if kind == "zip":
        return _zip(source, target, names)
    with unpacked(source, kind) as content, tempfile.TemporaryFile() as clean:
        changed = _copy_without(content, cast(BinaryIO, clean), names)
        pack(cast(BinaryIO, clean), kind, source, target)
    return changed


def _cross(handle: BinaryIO, names: Sequence[str]) -> bool:
    if not handle.seek(0, os.SEEK_END):
        return False
    changed = False
    with mmap.mmap(handle.fileno(), 0) as content:
        for name in names:
            for start, end in [found.span() for found in whole(name).finditer(content)]:
                content[start:end], changed = b"x" * (end - start), True
        content.flush()
    return changed


def _zip(source: BinaryIO, target: BinaryIO, names: Sequence[str]) -> bool:
    with zipfile.ZipFile(source) as archive:
        infos, comment = archive.infolist(), archive.comment
    changed = named(comment, names)
    with zipfile.ZipFile(target, "w") as fresh:
        fresh.comment = crossed(comment, names)
        for info, (name, content) in zip(infos, members(source), strict=True):
            entry = copy(info)
            entry.filename, entry.comment = retitled(name, names), crossed(info.comment, names)
            changed |= (entry.filename, entry.comment) != (name, info.comment)
            with tempfile.TemporaryFile() as clean:
                changed |= _copy_without(content, cast(BinaryIO, clean), names)
                clean.seek(0)
                with fresh.open(entry, "w", force_zip64=True) as member:
                    shutil.copyfileobj(clean, member)
    return changed


def _parquet(source: BinaryIO, target: BinaryIO, names: Sequence[str]) -> bool:
    """Cell by cell; groups of rows, compression, the schema and what is noted with it stay."""
    with pq.ParquetFile(source) as content:
        schema = content.schema_arrow
        clean = _clean_schema(schema, names)
        changed = not schema.equals(clean, check_metadata=True)
        with pq.ParquetWriter(target, clean, compression=_codecs(content.metadata)) as writer:
            for group in range(content.num_row_groups):
                columns = []
                for column in content.read_row_group(group, use_threads=False).columns:
                    if stands_in(column, names):
                        column, changed = _clean_column(column, names), True
                    columns.append(column)
                table = pa.Table.from_arrays(columns, schema=clean)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
    return changed


def _codecs(metadata: pq.FileMetaData) -> dict[str, str] | str:
    if not metadata.num_row_groups:
        return "snappy"
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    return {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE").lower() for c in columns}


def _clean_schema(schema: pa.Schema, names: Sequence[str]) -> pa.Schema:
    fields = [
        field.with_name(blotted(field.name, names)).with_metadata(_clean_notes(field.metadata, names))
        for field in schema
    ]
    return pa.schema(fields, metadata=_clean_notes(schema.metadata, names))


def _clean_notes(notes: dict | None, names: Sequence[str]) -> dict | None:
    return notes and {crossed(key, names): crossed(value, names) for key, value in notes.items()}


def _clean_column(column: pa.ChunkedArray, names: Sequence[str]) -> pa.ChunkedArray:
    kind, values = column.type, _clean_value(column.to_pylist(), names)
    if pa.types.is_dictionary(kind):
        return pa.chunked_array([pa.array(values, kind.value_type).dictionary_encode().cast(kind)])
    return pa.chunked_array([pa.array(values, kind)])


def _clean_value(value: object, names: Sequence[str]) -> object:
    match value:
        case str():
            return blotted(value, names)
        case bytes():
            return crossed(value, names)
        case list() | tuple():
            return type(value)(_clean_value(one, names) for one in value)
        case dict():
            return {key: _clean_value(one, names) for key, one in value.items()}
    return value

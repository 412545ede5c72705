"""Where a word still stands, in files of any kind below some folders: shows that an erasure is whole."""

import gzip
import mmap
import os
import re
import sqlite3
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

LONG = 16  # characters from which a word cannot be part of another by accident
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
SPACES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
DEEP = 4  # times that JSON may stand within JSON
TEXT = 65536  # bytes without a zero at a file's beginning: it is text


@dataclass(frozen=True)
class Trace:
    """A word that was found, and where: a file, and what within it."""

    path: Path
    within: str


def whole(word: str) -> re.Pattern[bytes]:
    """The word, not as a part of another one of letters, digits, dots, colons, dashes and underscores."""
    part = re.escape(word.encode())
    return re.compile(
        rb"(?<![A-Za-z0-9_])(?<![A-Za-z0-9_][.:-])" + part + rb"(?![A-Za-z0-9_])(?![.:-][A-Za-z0-9_])"
    )


def mentions(text: str, words: Sequence[str]) -> bool:
    """Whether a text names one of the words as a whole, also in the escapes of JSON or of an address."""
    patterns = [whole(word) for word in words]
    for _ in range(DEEP):
        if any(
            pattern.search(form.encode(errors="replace"))
            for form in (text, unquote(text))
            for pattern in patterns
        ):
            return True
        if (plain := ESCAPE.sub(_unescaped, text)) == text:
            return False
        text = plain
    return False


def traces(words: Sequence[str], roots: Iterable[Path]) -> list[Trace]:
    """Every file below the roots that holds one of the words.

    Looked into: text and any other bytes; rows of SQLite's databases; strings of Parquet files; members of
    zip and npz files, also as numpy writes text; gzip. A word of fewer than 16 characters is found in
    databases' rows, not in their free space, where it would be found in any other word.
    """
    return [
        Trace(file, within) for root in roots for file in _files(root) if (within := _within(file, words))
    ]


def blot(path: Path, word: str) -> int:
    """Write x over a word in a text file, in place, so that who appends to it goes on; how often it stood."""
    size = path.stat().st_size
    if not size or not is_text(path):
        return 0
    with path.open("r+b") as handle, mmap.mmap(handle.fileno(), size) as content:
        found = [match.span() for match in whole(word).finditer(content)]
        for start, end in found:
            content[start:end] = b"x" * (end - start)
        content.flush()
    return len(found)


def is_text(path: Path) -> bool:
    """Whether the file begins as text does."""
    with path.open("rb") as handle:
        head = handle.read(TEXT)
    return b"\0" not in head and not head.startswith((b"PAR1", b"PK\3\4", b"\x1f\x8b"))


def _unescaped(escape: re.Match[str]) -> str:
    sign = escape[1]
    return chr(int(sign[1:], 16)) if len(sign) == 5 else SPACES.get(sign, sign)


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for folder, _, names in os.walk(root):
        for name in names:
            file = Path(folder, name)
            if file.is_file() and not file.is_symlink():
                yield file


def _within(file: Path, words: Sequence[str]) -> str:
    """What within the file holds a word; empty where none does, or the file is gone."""
    try:
        size = file.stat().st_size
        with file.open("rb") as handle:
            head = handle.read(16)
            if not size:
                return ""
            database = head.startswith(b"SQLite format 3")
            if database and (found := _in_database(file, words)):
                return found
            if head.startswith(b"PAR1"):
                return _in_parquet(file, words)
            if head.startswith(b"PK\3\4"):
                return _in_zip(file, words)
            if head.startswith(b"\x1f\x8b"):
                return _in_bytes(gzip.open(file).read(), words)
            with mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ) as content:
                return _in_bytes(content, words, plain=not database)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, zipfile.BadZipFile, pa.ArrowException, sqlite3.Error) as error:
        return f"cannot be read ({type(error).__name__})"


def _in_bytes(content: bytes | mmap.mmap, words: Sequence[str], plain: bool = True) -> str:
    for word in words:
        if len(word) >= LONG and any(content.find(word.encode(c)) >= 0 for c in ("utf-8", "utf-32-le")):
            return "bytes"
        if plain and whole(word).search(content):
            return "bytes"
    return ""


def _in_database(file: Path, words: Sequence[str]) -> str:
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=15)) as connection:
        connection.text_factory = bytes
        listed = connection.execute("SELECT name FROM sqlite_master WHERE type='table'")
        tables = [row[0].decode() for row in listed]
        for table in tables:
            quoted = '"' + table.replace('"', '""') + '"'
            for row in connection.execute(f"SELECT * FROM {quoted}"):
                if any(isinstance(value, bytes) and _in_bytes(value, words) for value in row):
                    return f"table {table}"
    return ""


def _in_parquet(file: Path, words: Sequence[str]) -> str:
    content = pq.ParquetFile(file)
    for group in range(content.num_row_groups):
        table = content.read_row_group(group)
        for name, column in zip(table.column_names, table.columns, strict=True):
            if any(_in_bytes(text, words) for part in column.chunks for text in _texts(part)):
                return f"column {name}"
    return ""


def _texts(values: pa.Array) -> Iterator[bytes]:
    """The different strings of an array, one in a line; also of lists, structs and dictionaries."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        yield from _texts(values.dictionary)
    elif pa.types.is_nested(kind):
        for part in values.flatten() if pa.types.is_struct(kind) else [values.flatten()]:
            yield from _texts(part)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        yield "\n".join(value or "" for value in values.unique().to_pylist()).encode()
    elif pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        yield b"\n".join(value or b"" for value in values.unique().to_pylist())


def _in_zip(file: Path, words: Sequence[str]) -> str:
    with zipfile.ZipFile(file) as content:
        for name in content.namelist():
            member = content.read(name)
            wide = any(member.find(word.encode("utf-32-le")) >= 0 for word in words)
            if wide or _in_bytes(member, words):
                return name
    return ""

"""Files within files: what is compressed, archives, text of two bytes a letter; opened, and made again."""

import bz2
import gzip
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, Literal, cast

import pyarrow as pa

TEXT = 65536  # bytes without a zero at a file's beginning: it is text
KINDS = {  # by the first bytes
    b"SQLite format 3": "sqlite",
    b"PAR1": "parquet",
    b"PK\3\4": "zip",
    b"\x1f\x8b": "gz",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zst",
    b"\x04\x22\x4d\x18": "lz4",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "old Office",
}
BOMS = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}
SEALED = "tar", "7z", "rar", "old Office"
ENCRYPTED = 1  # flag of a zip's member
FAULTS = (  # of a file that is broken, or not what it begins as
    OSError, EOFError, ValueError, RuntimeError, zlib.error, lzma.LZMAError, zipfile.BadZipFile,
    NotImplementedError, pa.ArrowException,
)  # fmt: skip


class Sealed(RuntimeError):
    """Nobody can look into it; the message says why."""


def kind_of(handle: BinaryIO) -> str:
    """What a file begins as: one of ``KINDS``, else ``text`` or ``bytes``."""
    handle.seek(0)
    head = handle.read(TEXT)
    handle.seek(0)
    for sign, kind in KINDS.items():
        if head.startswith(sign):
            return kind
    if head[4:10] == b"1AY&SY" and head.startswith(b"BZh"):
        return "bz2"
    if head[257:262] == b"ustar":
        return "tar"
    if head[:2] in BOMS and b"\0\0" not in head:
        return "utf-16"
    return "bytes" if b"\0" in head else "text"


@contextmanager
def unpacked(handle: BinaryIO, kind: str) -> Iterator[BinaryIO]:
    """The content of what is compressed, in a file without a name.

    Raises:
        Sealed: there is no way into this kind.
    """
    if kind in SEALED:
        raise Sealed(f"nobody can look into a file of {kind}")
    with tempfile.TemporaryFile() as content:
        if kind == "utf-16":
            code = BOMS[handle.read(2)]
            content.write(handle.read().decode(code, "surrogatepass").encode(errors="surrogatepass"))
        else:
            with _stream(handle, kind, "rb") as source:
                shutil.copyfileobj(source, content)
        content.flush()
        yield cast(BinaryIO, content)


def pack(content: BinaryIO, kind: str, like: BinaryIO, target: BinaryIO) -> None:
    """Compress ``content`` as ``like`` is."""
    content.seek(0)
    like.seek(0)
    if kind == "utf-16":
        mark = like.read(2)
        text = content.read().decode(errors="surrogatepass")
        target.write(mark + text.encode(BOMS[mark], "surrogatepass"))
        return
    with _stream(target, kind, "wb") as packer:
        shutil.copyfileobj(content, packer)


def members(handle: BinaryIO) -> Iterator[tuple[str, BinaryIO]]:
    """Names and contents of the files in a zip.

    Raises:
        Sealed: one is encrypted.
    """
    with zipfile.ZipFile(handle) as archive:
        for info in archive.infolist():
            if info.flag_bits & ENCRYPTED:
                raise Sealed(f"nobody can look into {info.filename}, which is encrypted")
            with tempfile.TemporaryFile() as content, archive.open(info) as source:
                shutil.copyfileobj(source, content)
                content.flush()
                yield info.filename, cast(BinaryIO, content)


def _stream(handle: BinaryIO, kind: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """A stream that compresses into a file, or reads what was compressed; the file stays open."""
    match kind:
        case "gz":
            return cast(BinaryIO, gzip.GzipFile("", mode, fileobj=handle, mtime=0))
        case "bz2":
            return cast(BinaryIO, bz2.BZ2File(handle, mode))
        case "xz":
            return cast(BinaryIO, lzma.LZMAFile(handle, mode))
    codec, descriptor = {"zst": "zstd", "lz4": "lz4"}[kind], os.dup(handle.fileno())
    os.lseek(descriptor, handle.tell(), os.SEEK_SET)
    end = pa.PythonFile(os.fdopen(descriptor, mode), mode[0])  # which is closed with the stream
    return (pa.CompressedInputStream if mode == "rb" else pa.CompressedOutputStream)(end, codec)

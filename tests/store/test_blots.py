"""A name is taken out of files of any kind, and what else they hold stays as it was."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recloop.store.blots import blot, rename_named
from recloop.store.traces import traces

WHO, OTHER = "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d00", "p-5f0c2a77b1f34c1e9f2d8a6e4b3c1d01"
X = "x" * len(WHO)
LINES = f'{{"user_id": "{WHO}", "n": 1}}\n{{"user_id": "{OTHER}", "n": 2}}\n'


def zipped(*members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


def tarred(*members):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


def by_arrow(codec, data):
    content = pa.BufferOutputStream()
    with pa.CompressedOutputStream(content, codec) as stream:
        stream.write(data)
    return content.getvalue().to_pybytes()


def parquet(**columns):
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content)
    return content.getvalue()


def table():
    """Every kind of column that may hold a name, and some that hold none."""
    schema = pa.schema(
        [
            pa.field("user_id", pa.string(), nullable=False, metadata={b"about": b"who"}),
            pa.field("large", pa.large_string()),
            pa.field("word", pa.dictionary(pa.int32(), pa.string())),
            pa.field("list", pa.list_(pa.list_(pa.string()))),
            pa.field("struct", pa.struct([("x", pa.string()), ("n", pa.int16())])),
            pa.field("map", pa.map_(pa.string(), pa.string())),
            pa.field("bytes", pa.binary()),
            pa.field("fixed", pa.binary(len(WHO))),
            pa.field("said", pa.string()),
            pa.field("ts", pa.timestamp("us", tz="UTC")),
            pa.field("n", pa.float32()),
        ],
        metadata={b"made_by": b"a shop"},
    )
    rows = [
        {
            "user_id": who, "large": who, "word": who, "list": [[who, "a"], [], None],
            "struct": {"x": who, "n": n}, "map": [(who, "a"), ("b", who)],
            "bytes": who.encode(), "fixed": who.encode(),
            "said": json.dumps({"a": f"with {who}"}), "ts": datetime(2026, 1, n + 1, tzinfo=UTC), "n": 0.1,
        }
        for n, who in enumerate([WHO, OTHER, WHO, OTHER])
    ]  # fmt: skip
    rows[3] = dict.fromkeys(rows[3]) | {"user_id": OTHER}
    return pa.Table.from_pylist(rows, schema)


def test_a_parquet_file_loses_the_name_and_keeps_all_else(tmp_path):
    file = tmp_path / "log.parquet"
    pq.write_table(table(), file, row_group_size=2, compression="gzip")
    before = pq.read_table(file)
    os.utime(file, (5, 7))
    file.chmod(0o640)
    assert traces([WHO], [tmp_path])
    assert blot(file, [WHO])
    assert traces([WHO], [tmp_path]) == []
    after = pq.read_table(file)
    assert after.schema.equals(before.schema, check_metadata=True)
    clean = json.loads(json.dumps(before.drop(["bytes", "fixed"]).to_pylist(), default=str).replace(WHO, X))
    assert json.loads(json.dumps(after.drop(["bytes", "fixed"]).to_pylist(), default=str)) == clean
    for name in ("bytes", "fixed"):
        assert after[name].to_pylist() == [X.encode(), OTHER.encode(), X.encode(), None]
    metadata = pq.ParquetFile(file).metadata
    assert (metadata.num_row_groups, metadata.row_group(1).num_rows) == (2, 2)
    assert metadata.row_group(0).column(0).compression == "GZIP"
    assert (file.stat().st_mtime, file.stat().st_mode & 0o777) == (7, 0o640)
    assert [path.name for path in tmp_path.iterdir()] == ["log.parquet"]
    age = file.stat().st_ino
    assert not blot(file, [WHO]), "again there is nothing to do"
    assert file.stat().st_ino == age


@pytest.mark.parametrize("noted", ["column", "file", "field"])
def test_a_parquet_file_that_names_the_person_in_its_schema_loses_that_too(tmp_path, noted):
    field = pa.field(
        WHO if noted == "column" else "n", pa.int8(), metadata={"a": WHO} if noted == "field" else None
    )
    schema = pa.schema([field], metadata={"for": f"of {WHO}"} if noted == "file" else None)
    pq.write_table(pa.table([[1, 2]], schema=schema), tmp_path / "a.parquet")
    assert traces([WHO], [tmp_path])
    assert blot(tmp_path / "a.parquet", [WHO])
    assert traces([WHO], [tmp_path]) == []
    assert pq.read_table(tmp_path / "a.parquet").columns[0].to_pylist() == [1, 2]


PACKED = {
    "log.gz": (gzip.compress, gzip.decompress),
    "log.bz2": (bz2.compress, bz2.decompress),
    "log.xz": (lzma.compress, lzma.decompress),
    "log.zst": (lambda data: by_arrow("zstd", data), lambda data: opened("zstd", data)),
    "log.lz4": (lambda data: by_arrow("lz4", data), lambda data: opened("lz4", data)),
    "le.csv": (lambda data: "\ufeff".encode("utf-16-le") + data.decode().encode("utf-16-le"),
               lambda data: data.decode("utf-16").encode()),
    "be.csv": (lambda data: "\ufeff".encode("utf-16-be") + data.decode().encode("utf-16-be"),
               lambda data: data.decode("utf-16").encode()),
    "a.zip": (lambda data: zipped(("dir/a.jsonl", data)), lambda data: first(data)),
    "zip.zip": (lambda data: zipped(("a.zip", zipped(("b.gz", gzip.compress(data))))),
                lambda data: gzip.decompress(first(first(data)))),
}  # fmt: skip


def opened(codec, data):
    with pa.CompressedInputStream(pa.BufferReader(data), codec) as stream:
        return stream.read()


def first(data):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        return archive.read(archive.infolist()[0])


@pytest.mark.parametrize("name", PACKED)
@pytest.mark.parametrize("who", [WHO, "kim"])
def test_what_is_compressed_loses_the_name_and_stays_compressed(tmp_path, name, who):
    pack, unpack = PACKED[name]
    file, lines = tmp_path / name, LINES.replace(WHO, who)
    file.write_bytes(pack(lines.encode()))
    os.utime(file, (5, 7))
    assert [trace.path for trace in traces([who], [tmp_path])] == [file]
    assert blot(file, [who])
    assert traces([who], [tmp_path]) == []
    assert unpack(file.read_bytes()).decode() == lines.replace(who, "x" * len(who))
    assert file.stat().st_mtime == 7
    assert not blot(file, [who])


def test_a_zip_keeps_its_other_members_and_loses_names_of_members(tmp_path):
    content = zipped(
        (f"of-{WHO}/", ""), (f"of-{WHO}/a.parquet", parquet(user_id=[WHO, OTHER])), ("b.bin", b"\0b")
    )
    (tmp_path / "a.zip").write_bytes(content)
    assert blot(tmp_path / "a.zip", [WHO])
    assert traces([WHO], [tmp_path]) == []
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"of-{X}/", f"of-{X}/a.parquet", "b.bin"]
        assert archive.infolist()[2].compress_type == zipfile.ZIP_DEFLATED
        assert archive.read("b.bin") == b"\0b"
        assert pq.read_table(io.BytesIO(archive.read(f"of-{X}/a.parquet")))["user_id"].to_pylist() == [
            X,
            OTHER,
        ]


def locked(data):
    """A zip that says that it is encrypted."""
    content = bytearray(zipped(("a", data)))
    content[6] |= 1
    content[content.index(b"PK\1\2") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "within"),
    [
        ("a.parquet", b"PAR1 and no more", "cannot be read"),
        ("a.gz", gzip.compress(LINES.encode())[:-12], "cannot be read"),
        ("b.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0 none", "cannot be read"),
        ("a.xz", lzma.compress(LINES.encode())[:-9], "cannot be read"),
        ("a.zst", by_arrow("zstd", LINES.encode())[:-9] + b"?", "cannot be read"),
        ("a.zip", zipped(("a", LINES * 50))[:-30], "cannot be read"),
        ("b.zip", locked(LINES.encode()), "nobody can look into a, which is encrypted"),
        ("c.zip", zipped(("in.7z", b"7z\xbc\xaf\x27\x1c..")), "nobody can look into a file of 7z"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c....", "nobody can look into a file of 7z"),
        ("a.tar", tarred(("a", b"a")), "nobody can look into a file of tar"),
        ("a.tar.gz", gzip.compress(tarred(("a", b"a"))), "nobody can look into a file of tar"),
        ("a.rar", b"Rar!\x1a\x07....", "nobody can look into a file of rar"),
        ("a.bin", b"\0\1" + WHO.encode(), "bytes"),
        ("b.bin", b"\0" + f"Kunde {WHO}".encode("utf-16-le"), "bytes"),
    ],
    ids=lambda value: "content" if isinstance(value, bytes) else None,  # some hold the time
)  # fmt: skip
def test_what_cannot_be_rewritten_is_left_as_it_is_and_is_not_called_clean(tmp_path, name, content, within):
    file = tmp_path / name
    file.write_bytes(content)
    assert not blot(file, [WHO])
    assert file.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing is left beside it"
    (trace,) = traces([WHO], [tmp_path])
    assert trace.within.startswith(within)


def test_of_a_writing_that_fails_the_file_stays_as_it_was(tmp_path, monkeypatch):
    file = tmp_path / "a.parquet"
    file.write_bytes(parquet(user_id=[WHO]))
    before = file.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left")))
    assert not blot(file, [WHO])
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.parquet"]


def test_files_and_folders_lose_the_name_too(tmp_path):
    for name in (f"{WHO}.csv", f"of-{WHO}/{WHO}.csv", f"{X}.csv", "kim.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name[0])
    assert len(traces([WHO], [tmp_path])) == 2
    assert rename_named(tmp_path, [WHO, "kim"]) == 3
    found = {str(path.relative_to(tmp_path)): path.read_text() for path in tmp_path.rglob("*.csv")}
    assert found == {f"x{X}.csv": "p", f"of-{X}/{X}.csv": "o", f"{X}.csv": "x", "kim.csv": "k"}
    assert traces([WHO], [tmp_path]) == []


def test_a_file_that_is_called_by_a_short_id_beside_other_words_loses_it(tmp_path):
    (tmp_path / "20261126T120000-orders-minji.kim_77.csv").write_text("a")
    (tmp_path / "minji.kim_771.csv").write_text("b")
    assert [trace.within for trace in traces(["minji.kim_77"], [tmp_path])] == ["its name"]
    assert rename_named(tmp_path, ["minji.kim_77"]) == 1
    names = {"20261126T120000-orders-xxxxxxxxxxxx.csv", "minji.kim_771.csv"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_links_are_followed_once(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.jsonl.gz").write_bytes(gzip.compress(LINES.encode()))
    (tmp_path / "disk" / "round").symlink_to(tmp_path / "disk")
    (tmp_path / "home" / "logs").symlink_to(tmp_path / "disk")
    (tmp_path / "home" / "b.gz").symlink_to(tmp_path / "disk" / "a.jsonl.gz")
    (tmp_path / "home" / "gone").symlink_to(tmp_path / "nowhere")
    found = traces([WHO], [tmp_path / "home"])
    assert sorted(trace.path.name for trace in found) == ["a.jsonl.gz", "b.gz"]
    assert blot(found[0].path, [WHO])
    assert traces([WHO], [tmp_path / "home"]) == []
    assert (tmp_path / "home" / "b.gz").is_symlink()


def test_only_columns_of_people_are_looked_into_where_that_is_asked(tmp_path):
    (tmp_path / "a.parquet").write_bytes(parquet(user_id=["lee"], title=["for kim"]))
    (tmp_path / "b.jsonl").write_text("kim")
    assert traces(["kim"], [tmp_path], ["user_id"]) == []
    (tmp_path / "c.parquet").write_bytes(parquet(user_id=["kim"]))
    assert [trace.path.name for trace in traces(["kim"], [tmp_path], ["user_id"])] == ["c.parquet"]

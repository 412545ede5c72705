"""An incremental snapshot: old files stay, byte for byte, and never tell of another store."""

import duckdb
import pyarrow.parquet as pq
import pytest
from dvc.repo import Repo
from sqlalchemy import text

from recloop.schema import Event, Impression, Item
from recloop.schema.arrow import EVENTS
from recloop.store import (
    add_items,
    append,
    find_items,
    open_store,
    parts,
    remember,
    remove_items,
    tables,
)
from recloop.store.data_versions import FILE, data_versions, note_version
from recloop.store.parts import MANIFEST, Manifest, tree_hash
from recloop.store.snapshot import watermark, write_snapshot


@pytest.fixture
def engine(store_url, monkeypatch):
    monkeypatch.setattr(parts, "NUMBERS", 10)
    engine = open_store(store_url)
    add_items(engine, [Item(item_id="a", title="a", price=1.0)])
    return engine


def log(engine, first, last, user="u"):
    common = [{"request_id": f"r{n}", "user_id": user, "item_id": "a", "ts": n} for n in range(first, last)]
    append(
        engine,
        [Impression(position=0, propensity=0.5, policy="p", **one) for one in common],
        [Event(event_id=f"e{one['ts']}", kind="click", **one) for one in common],
    )


def stamps(folder):
    files = [file for file in folder.rglob("*.parquet") if file.is_file()]
    return {str(file.relative_to(folder)): file.stat().st_mtime_ns for file in files}


def names(folder, table):
    return sorted(file.name for file in (folder / f"{table}.parquet").iterdir())


def test_what_is_full_is_not_written_again_and_the_whole_is_what_one_snapshot_gives(engine, tmp_path):
    log(engine, 0, 25)
    first = write_snapshot(engine, watermark(engine), tmp_path / "s")
    assert (first.rows["events"], first.written, first.parts) == (25, 7, 7)
    assert names(tmp_path / "s", "events") == ["000000.parquet", "000001.parquet", "000002.parquet"]
    before = stamps(tmp_path / "s")
    log(engine, 25, 31)
    mark = watermark(engine)
    second = write_snapshot(engine, mark, tmp_path / "s")
    assert (second.rows["events"], second.written, second.parts) == (31, 4, 9)
    after = stamps(tmp_path / "s")
    kept = {name for name in before if after[name] == before[name]}
    assert kept >= {f"{t}.parquet/00000{n}.parquet" for t in ("events", "impressions") for n in (0, 1)}
    write_snapshot(engine, mark, tmp_path / "alone")
    assert tree_hash(tmp_path / "alone") == tree_hash(tmp_path / "s"), "whatever was there before"
    assert pq.read_table(tmp_path / "s" / "events.parquet")["event_id"].to_pylist() == [
        f"e{n}" for n in range(31)
    ]
    assert write_snapshot(engine, mark, tmp_path / "s").written == 0


def test_an_older_mark_gives_the_older_snapshot(engine, tmp_path):
    log(engine, 0, 15)
    old = watermark(engine)
    write_snapshot(engine, old, tmp_path / "old")
    log(engine, 15, 45)
    add_items(engine, [Item(item_id="a", title="a", price=2.0), Item(item_id="b", title="b")])
    remove_items(engine, ["a"])
    new = watermark(engine)
    assert new.catalogue != old.catalogue
    write_snapshot(engine, new, tmp_path / "s")
    items = pq.read_table(tmp_path / "s" / "items.parquet").to_pylist()
    assert [(one["item_id"], one["available"]) for one in items] == [("a", False), ("b", True)]
    assert [one.item_id for one in find_items(engine)] == ["b"]
    write_snapshot(engine, old, tmp_path / "s")
    assert tree_hash(tmp_path / "s") == tree_hash(tmp_path / "old")


def test_another_store_s_files_are_not_taken_for_this_one_s(engine, new_store, tmp_path):
    log(engine, 0, 20)
    write_snapshot(engine, watermark(engine), tmp_path / "s")
    other = open_store(new_store())
    add_items(other, [Item(item_id="a", title="a")])
    log(other, 0, 20, user="v")
    write_snapshot(other, watermark(other), tmp_path / "s")
    assert set(pq.read_table(tmp_path / "s" / "events.parquet")["user_id"].to_pylist()) == {"v"}
    with other.begin() as connection:
        remember(connection, "source", "movielens")
    assert write_snapshot(other, watermark(other), tmp_path / "s").written == 5


def test_a_row_that_went_is_not_kept_and_a_file_that_was_spoilt_is_made_anew(engine, tmp_path):
    log(engine, 0, 20)
    mark = watermark(engine)
    write_snapshot(engine, mark, tmp_path / "s")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM events WHERE event_id = 'e3'"))
    spoilt = tmp_path / "s" / "impressions.parquet" / "000001.parquet"
    spoilt.write_bytes(spoilt.read_bytes()[:-1] + b"x")
    (tmp_path / "s" / "events.parquet" / "000009.parquet").write_bytes(b"of no version")
    assert write_snapshot(engine, mark, tmp_path / "s").written == 2
    assert "e3" not in pq.read_table(tmp_path / "s" / "events.parquet")["event_id"].to_pylist()
    assert pq.read_table(tmp_path / "s" / "impressions.parquet").num_rows == 20


@pytest.mark.parametrize("content", ["", "{", "[]", '{"scope": 1, "parts": {"x": {}}}', '{"parts": 3}'])
def test_a_manifest_that_cannot_be_read_costs_only_time(engine, tmp_path, content):
    log(engine, 0, 12)
    mark = watermark(engine)
    write_snapshot(engine, mark, tmp_path / "s")
    whole = tree_hash(tmp_path / "s")
    (tmp_path / "s" / MANIFEST).write_text(content)
    assert Manifest.load(tmp_path / "s") is None
    assert write_snapshot(engine, mark, tmp_path / "s").written == 5
    assert tree_hash(tmp_path / "s") == whole


def test_who_is_killed_goes_on_where_it_was(engine, tmp_path, monkeypatch):
    log(engine, 0, 40)
    mark, real, calls = watermark(engine), parts.write_table, []

    def dying(*given):
        calls.append(given)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(parts, "write_table", dying)
    with pytest.raises(KeyboardInterrupt):
        write_snapshot(engine, mark, tmp_path / "s")
    assert write_snapshot(engine, mark, tmp_path / "s").written == 9, "two of them by who was killed"
    assert len(calls) == 3 + 9 - 2
    assert pq.read_table(tmp_path / "s" / "impressions.parquet").num_rows == 40
    assert write_snapshot(engine, mark, tmp_path / "s").written == 0


def test_a_choice_of_as_many_other_rows_is_written_anew(engine, tmp_path):
    for n, user in enumerate("uvw" * 4):
        log(engine, n, n + 1, user)

    def write(who, before):
        manifest = Manifest({})
        chosen = tables.events.c.user_id == who
        parts.write_parts(engine, tables.events, EVENTS, 12, tmp_path, manifest, before, chosen)
        return manifest

    first = write("u", None)
    first.save(tmp_path)
    first = Manifest.load(tmp_path)
    assert len(write("u", first).new) == 0
    assert len(write("v", first).new) == 2
    assert set(pq.read_table(tmp_path / "events.parquet")["user_id"].to_pylist()) == {"v"}


def test_duckdb_joins_each_event_with_what_its_item_was_then(engine, tmp_path):
    add_items(engine, [Item(item_id="a", title="a", price=2.0)], ts=5)
    add_items(engine, [Item(item_id="a", title="a", price=3.0)], ts=8)
    log(engine, 3, 10)
    write_snapshot(engine, watermark(engine), tmp_path / "s")
    found = duckdb.sql(
        f"SELECT e.event_id, v.price FROM read_parquet('{tmp_path}/s/events.parquet/*') e"
        f" ASOF JOIN read_parquet('{tmp_path}/s/item_versions.parquet/*') v"
        " ON e.item_id = v.item_id AND e.ts >= v.ts ORDER BY e.ts"
    ).fetchall()
    assert [price for _, price in found] == [1.0, 1.0, 2.0, 2.0, 2.0, 3.0, 3.0]


def test_dvc_keeps_only_new_files_and_gives_the_folder_the_hash_that_we_do(engine, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log(engine, 0, 25)
    with Repo.init(".", no_scm=True) as repo:
        write_snapshot(engine, watermark(engine), tmp_path / "s")
        (stage,) = repo.add("s")
        assert stage.outs[0].hash_info.value == tree_hash(tmp_path / "s")
        kept = {file for file in (tmp_path / ".dvc/cache").rglob("*") if file.is_file()}
        log(engine, 25, 28)
        assert write_snapshot(engine, watermark(engine), tmp_path / "s").written == 2
        (stage,) = repo.add("s")
        assert stage.outs[0].hash_info.value == tree_hash(tmp_path / "s")
        new = {file for file in (tmp_path / ".dvc/cache").rglob("*") if file.is_file()} - kept
    assert len(new) == 4, "two files of logs, the manifest and the list of all"


def test_the_list_of_versions_says_what_each_added(tmp_path):
    first = note_version(tmp_path, "a.dir", "own", {"events": 5, "items": 2}, 3, 3)
    assert first.added == {"events": 5, "items": 2}
    assert note_version(tmp_path, "a.dir", "own", {"events": 5, "items": 2}, 0, 3) == first
    assert note_version(tmp_path, "b.dir", "own", {"events": 9, "items": 1}, 1, 3).added == {
        "events": 4, "items": -1,
    }  # fmt: skip
    with (tmp_path / FILE).open("a") as file:
        file.write('{"version": "torn')
    assert [one.version for one in data_versions(tmp_path)] == ["a.dir", "b.dir"]
    assert note_version(tmp_path, "c.dir", "market", {"events": 7}, 1, 1).added == {"events": 7}
    assert [one.version for one in data_versions(tmp_path)] == ["a.dir", "b.dir", "c.dir"]

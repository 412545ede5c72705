"""Ingest: the inbox is read once, what is wrong is put aside with its reason, and the watermark moves."""

import shutil
from pathlib import Path

import pytest

from flows.ingest import MARK, ingest
from recloop.schema import Item
from recloop.settings import places
from recloop.store import add_items, open_store
from recloop.store.snapshot import Watermark

ROOT = Path(__file__).parents[2]
LINE = (
    "10.0.0.1 - - [24/Nov/2026:10:00:{second:02} +0900]"
    ' "GET /items/{item}?uid=u1&act=click HTTP/1.1" 200 512\n'
)


@pytest.fixture
def inbox(tmp_path, monkeypatch, prefect):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    add_items(open_store(places().store), [Item(item_id="a", title="a"), Item(item_id="b", title="b")])
    folder = places().home / "inbox"
    folder.mkdir()
    return folder


def names(folder: str) -> list[str]:
    return sorted(path.name.partition("-")[2] for path in (places().home / folder).glob("*"))


def test_a_log_in_the_inbox_is_read_once_and_begins_a_new_data_version(inbox):
    for _ in range(2):  # the same name again is another file
        (inbox / "access.log").write_text(LINE.format(second=1, item="a") + LINE.format(second=2, item="b"))
        first = ingest()
    assert first == (0, 0), "the same acts again are not new"
    assert list(inbox.iterdir()) == []
    assert names("inbox-done") == ["access.log", "access.log"]
    mark = Watermark.load(MARK)
    assert (mark.source, mark.impressions, mark.events) == ("own", 2, 2)
    (inbox / "more.log").write_text(LINE.format(second=3, item="a"))
    assert ingest() == (1, 1)
    assert Watermark.load(MARK).events == 3


def test_what_cannot_be_read_is_put_aside_and_the_rest_goes_on(inbox):
    (inbox / "a-folder-of-nothing").mkdir()
    (inbox / "good.log").write_text(LINE.format(second=1, item="a"))
    (inbox / ".half.log").write_text("half of a li")
    assert ingest() == (1, 1)
    assert names("inbox-refused") == ["a-folder-of-nothing"]
    assert names("inbox-done") == ["good.log"]
    assert [path.name for path in inbox.iterdir()] == [".half.log"], "what is not whole yet stays"


def test_nothing_new_leaves_the_data_version_as_it_is(inbox):
    ingest()
    before = Path(MARK).read_bytes()
    assert ingest() == (0, 0)
    assert Path(MARK).read_bytes() == before

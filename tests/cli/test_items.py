"""`recloop item`: one by one, and in bulk from files."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from recloop.cli import app
from recloop.intake import DatasetError, rows
from recloop.intake.items import import_items
from recloop.settings import places
from recloop.store import Put, find_items, open_store, search_items, versions_of
from recloop.store.tables import quarantine


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["item", *words])


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def test_an_item_from_put_to_remove(run):
    refused = run("put", "a", "--price", "2")
    assert (refused.exit_code, "title: Field required" in refused.stderr) == (1, True)
    assert "a is new" in run("put", "a", "--title", "로고 디자인", "--attributes", '{"skill": "logo"}').stdout
    assert "a is changed" in run("put", "a", "--price", "12.5", "--sold-out").stdout
    assert "a is as it was" in run("put", "a", "--price", "12.5").stdout
    shown = json.loads(run("show", "a").stdout)
    assert (shown["title"], shown["price"], shown["available"]) == ("로고 디자인", 12.5, False)
    assert "로고" in run("search", "디자").stdout
    assert json.loads(run("list", "--json").stdout) == [shown]
    assert json.loads(run("search", "piano", "--json").stdout) == []
    found = json.loads(run("versions", "a", "--json").stdout)
    assert [one["price"] for one in found] == [None, 12.5]
    assert found[0]["from"] < found[1]["from"]
    assert "1 of 2" in run("remove", "a", "b").stdout
    for words in (("show", "a"), ("remove", "a"), ("versions", "nobody")):
        assert run(*words).exit_code == 1
    assert "removed" in run("versions", "a").stdout


@pytest.mark.parametrize("wrong", ["[1]", "{", '{"a": [1]}'])
def test_wrong_attributes_are_named(run, wrong):
    answer = run("put", "a", "--title", "t", "--attributes", wrong)
    assert answer.exit_code == 1
    assert "attributes" in answer.stderr


ROWS = [
    {"item_id": "a", "title": "로고, 디자인", "price": 1.5, "available": False, "attributes": {"n": 2.0}},
    {"item_id": "b", "title": "두 줄\n제목", "category": "c", "image": "https://h/x.png"},
    {"item_id": "no id", "title": "t"},
    {"item_id": "d", "title": "t", "price": -1.0},
]


def written(path):
    names = ["item_id", "title", "category", "price", "available", "image", "attributes"]
    flat = [row | {"attributes": json.dumps(row.get("attributes", {}))} for row in ROWS]
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + "\n")
        case ".csv":
            quoted = [
                ",".join('"' + str(row.get(n, "")).replace('"', '""') + '"' for n in names) for row in flat
            ]
            path.write_text("\ufeff" + "\n".join([",".join(names), *quoted]) + "\n")
        case ".parquet":
            pq.write_table(pa.Table.from_pylist([{n: row.get(n) for n in names} for row in flat]), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("at_once", [1, 5000])
def test_a_file_of_each_kind_gives_the_same_items(engine, tmp_path, kind, at_once, monkeypatch):
    monkeypatch.setattr(rows, "ROWS_AT_ONCE", at_once)
    file = written(tmp_path / f"items.{kind}")
    report = import_items(engine, file, progress=False)
    assert (report.read, report.put, report.reasons.total()) == (4, Put(new=2), 2)
    one, two = find_items(engine)
    assert (one.title, one.price, one.available, one.attributes) == ("로고, 디자인", 1.5, False, {"n": 2.0})
    assert (two.title, two.category, two.image) == ("두 줄\n제목", "c", "https://h/x.png")
    with engine.connect() as connection:
        held = connection.execute(select(quarantine).order_by(quarantine.c.id)).all()
    assert [json.loads(row.body)["row"] for row in held] == [3, 4]
    assert [row.reason.partition(":")[0] for row in held] == ["item_id", "price"]
    again = import_items(engine, file, progress=False)
    assert again.put == Put(same=2), "an import that was interrupted can be done again"
    assert len(versions_of(engine, "a")) == 1


def test_a_line_that_is_no_json_costs_that_line_alone(engine, tmp_path):
    file = tmp_path / "items.jsonl"
    one, two = b'{"item_id": "a", "title": "t"}', b'{"item_id": "b", "title": "t"}'
    file.write_bytes(b"\n".join([one, b'{"item_id": ', b"\xff\xfe", b"[]", two]))
    report = import_items(engine, file, progress=False)
    assert (report.read, report.put.new) == (5, 2)
    assert report.reasons.total() == 3


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("items.txt", b"", "is none of .csv, .jsonl, .parquet"),
        ("items.csv", b"item_id,titel\na,b\n", "has a column 'titel'; the fields are item_id, title"),
        ("items.csv", b"item_id,title\na,\xff\n", "cannot read"),
        ("items.parquet", b"PAR1 but no more", "cannot read"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(engine, tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=said):
        import_items(engine, tmp_path / name, progress=False)
    assert search_items(engine) == []


def test_the_command_says_what_came_of_each_row(run, tmp_path):
    answer = run("import", str(written(tmp_path / "items.csv")))
    assert "4 rows: 2 new, 0 changed, 0 the same" in answer.stdout
    assert "1 quarantined: price: Input should be greater than or equal to 0" in answer.stdout
    answer = json.loads(run("import", str(tmp_path / "items.csv"), "--json").stdout)
    assert (answer["read"], answer["same"], sum(answer["refused"].values())) == (4, 2, 2)
    missing = run("import", str(tmp_path / "nowhere.csv"))
    assert missing.exit_code == 1
    assert "cannot read" in " ".join(missing.stderr.split())
    assert [one.item_id for one in find_items(open_store(places().store))] == ["a", "b"]


def test_a_removed_item_comes_back_with_what_is_not_given_anew(run):
    run("put", "a", "--title", "로고", "--category", "디자인", "--price", "3000000000", "--sold-out")
    run("put", "a", "--available")
    before = json.loads(run("show", "a").stdout)
    run("remove", "a")
    assert "a is changed" in run("put", "a").stdout
    assert json.loads(run("show", "a").stdout) == before
    run("remove", "a")
    run("put", "a", "--price", "1")
    assert json.loads(run("show", "a").stdout) == before | {"price": 1.0}

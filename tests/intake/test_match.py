"""Linking records of several sources: known answers, and nothing of a person in what comes of it."""

import hashlib
import json

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from recloop.cli import app
from recloop.intake import DatasetError
from recloop.intake.match import Row, link, merged, read_rows, read_table
from recloop.intake.relink import WRITERS, relink

RULES = [("external_id",), ("email",), ("phone",)]
SOURCES = ["shop", "app", "crm"]
HASHED = hashlib.sha256(b"eve@example.com").hexdigest()


def row(source, id, **columns):
    return Row(source, id, columns)


PEOPLE = [
    row(0, "1", email="Ann@Example.com ", phone="010-1234-5678"),
    row(0, "2", email="bob@example.com", phone="02-999-0000"),
    row(0, "3", email=HASHED),
    row(1, "1", phone="+82 10 1234 5678"),  # Ann, by phone
    row(1, "2", email="carl@example.com", phone="02 999 0000"),  # not Bob: another address
    row(1, "3", email="eve@example.com"),  # Eve, whose address the shop has hashed
    row(2, "x", external_id="E-7", email="ann@example.com"),  # Ann, by address
    row(2, "y", external_id="E-8"),
    row(2, "z", phone="unknown", email="none"),
]


def test_records_are_linked_by_the_strongest_rule_that_knows_them():
    links = link(SOURCES, PEOPLE, RULES)
    assert links.names == {
        ("shop", "1"): "1",
        ("shop", "2"): "2",
        ("shop", "3"): "3",
        ("app", "1"): "1",
        ("app", "2"): "app:2",
        ("app", "3"): "3",
        ("crm", "x"): "1",
        ("crm", "y"): "crm:y",
        ("crm", "z"): "crm:z",
    }
    assert {name: (r.matched, r.conflicts, r.too_common) for name, r in links.rules.items()} == {
        "external_id": (0, 0, 0),
        "email": (2, 0, 0),
        "phone": (1, 1, 0),
    }
    assert (links.matched, links.alone) == (5, 4)
    assert links.conflicts == [("phone", ("shop", "2"), ("app", "2"))]


@pytest.mark.parametrize("written", ["+82 (0)10-1234-5678", "0082 10 1234 5678", "+82-10-1234-5678"])
def test_a_phone_is_the_same_however_its_country_is_written(written):
    two = [row(0, "a", phone="010-1234-5678"), row(1, "b", phone=written)]
    assert link(SOURCES, two, RULES).matched == 2


def test_a_phone_of_two_known_people_says_nothing_of_a_third():
    three = [row(0, "a", email="a@x", phone="1"), row(1, "b", email="b@x", phone="1"), row(2, "c", phone="1")]
    assert len(set(link(SOURCES, three, RULES).names.values())) == 3


def test_a_key_that_many_share_says_nothing():
    many = [row(0, str(i), email="none@example.com") for i in range(21)]
    links = link(SOURCES, many, RULES)
    assert (links.alone, links.rules["email"].too_common) == (21, 1)
    assert link(SOURCES, many, RULES, most=21).matched == 21


def test_items_are_linked_by_title_and_seller_together():
    rules = [("external_id",), ("title", "seller")]
    items = [
        row(0, "i1", title="Piano  Lesson!", seller="Kim"),
        row(1, "j1", title="piano lesson", seller="KIM"),
        row(1, "j2", title="piano lesson", seller="Lee"),
        row(1, "j3", title="Ｐｉａｎｏ lesson"),
    ]
    assert list(link(SOURCES, items, rules).names.values()) == ["i1", "i1", "app:j2", "app:j3"]


VALUE = st.sampled_from(["", "a@x", "b@x", "c@x"])


@given(
    st.lists(st.tuples(st.integers(0, 2), VALUE, VALUE), max_size=12),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_is_no_matter_and_nobody_is_lost(given_rows, luck):
    rows = [
        row(s, str(i), **{k: v for k, v in (("email", email), ("external_id", other)) if v})
        for i, (s, email, other) in enumerate(given_rows)
    ]
    links = link(SOURCES, rows, RULES)
    luck.shuffle(rows)
    assert link(SOURCES, rows, RULES) == links
    assert set(links.names) == {(SOURCES[r.source], r.id) for r in rows}
    for one in rows:
        for two in rows:
            other, same = one.columns.get("external_id"), two.columns.get("external_id")
            if other and other == same:
                assert links.names[SOURCES[one.source], one.id] == links.names[SOURCES[two.source], two.id]


def test_merging_takes_what_the_first_source_knows_and_no_contact_data():
    rows = [row(0, "1", email="a@x", region="Seoul"), row(1, "9", email="a@x", region="Busan", sex="F")]
    links = link(SOURCES, rows, RULES)
    assert merged(rows, links, SOURCES, "user_id") == [{"user_id": "1", "region": "Seoul", "sex": "F"}]


def test_the_command_reports_writes_links_and_keeps_no_contact_data(tmp_path):
    (tmp_path / "shop.csv").write_text("user_id,email,phone,region\n1,ann@example.com,,Seoul\n2,,010-1,\n")
    (tmp_path / "app.jsonl").write_text('{"user_id": "7", "email": "ANN@example.com", "sex": "F"}\n')
    out, merge = tmp_path / "links.csv", tmp_path / "merged.jsonl"
    asked = ["data", "match", "people", f"{tmp_path}/shop.csv", f"{tmp_path}/app.jsonl", "--out", str(out)]
    done = CliRunner().invoke(app, [*asked, "--merge", str(merge), "--json"])
    assert done.exit_code == 0, done.output
    report = json.loads(done.output)
    assert (report["matched"], report["alone"], report["rules"]["email"]["matched"]) == (2, 1, 1)
    assert out.read_text() == "source,id,name\napp,7,1\nshop,1,1\nshop,2,2\n"
    assert json.loads(merge.read_text().splitlines()[0]) == {"user_id": "1", "region": "Seoul", "sex": "F"}
    for text in (done.output, out.read_text(), merge.read_text()):
        assert "example.com" not in text.lower()
        assert "010" not in text
    assert "match" in CliRunner().invoke(app, asked).output


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "id\n1\n", "no column user_id"),
        ("a.csv", "user_id,x\n,1\n", "row 1 has no user_id"),
        ("a.csv", "user_id\n1\n1\n", "user_id 1 is there 2 times"),
        ("a.xls", "", "none of"),
        ("a.jsonl", "{", "cannot read"),
    ],
)
def test_what_cannot_be_linked_is_refused_by_name(tmp_path, name, text, says):
    (tmp_path / name).write_text(text)
    with pytest.raises(DatasetError, match=says):
        read_rows(tmp_path / name, 0, "user_id")


def test_an_id_may_be_the_number_0(tmp_path):
    pl.DataFrame({"user_id": [0, 1]}).write_parquet(tmp_path / "a.parquet")
    assert [one.id for one in read_rows(tmp_path / "a.parquet", 0, "user_id")] == ["0", "1"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".jsonl"])
def test_events_get_the_names_of_their_people_and_items(tmp_path, suffix):
    (tmp_path / "people.csv").write_text("source,id,name\napp,7,1\nshop,1,1\nshop,7,7\n")
    (tmp_path / "items.csv").write_text("source,id,name\napp,a,i1\n")
    rows = [
        {"user_id": user, "item_id": "a", "kind": "click", "ts": str(at)}
        for at, user in enumerate(["7", "8", "7"])
    ]
    events, out = tmp_path / f"events{suffix}", tmp_path / f"out{suffix}"
    asked = ["data", "relink", str(events), "--source", "app", "--out", str(out)]
    asked += ["--people", f"{tmp_path}/people.csv", "--items", f"{tmp_path}/items.csv"]
    WRITERS[suffix](pl.DataFrame(rows), events)
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "8 is the first of 1" in " ".join(done.output.split())
    assert not out.exists()
    WRITERS[suffix](pl.DataFrame([rows[0], rows[2]]), events)
    done = CliRunner().invoke(app, [*asked, "--json"])
    assert done.exit_code == 0, done.output
    wanted = [rows[at] | {"user_id": "1", "item_id": "i1"} for at in (0, 2)]
    assert read_table(out).rows(named=True) == wanted


def test_events_that_cannot_be_renamed_say_why(tmp_path):
    (tmp_path / "people.csv").write_text("source,id,name\napp,7,1\n")
    (tmp_path / "events.csv").write_text("who,item_id\n7,a\n")
    for links, out, why in (
        ({"user_id": tmp_path / "people.csv"}, "out.csv", "no column user_id"),
        ({"item_id": tmp_path / "none.csv"}, "out.csv", "cannot read"),
        ({}, "out.xlsx", "none of .csv"),
    ):
        with pytest.raises(DatasetError, match=why):
            relink(tmp_path / "events.csv", "app", links, tmp_path / out)

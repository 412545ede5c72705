"""Tables of one's own: the same rows in each kind of file, the same refusals, imported once."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.files import EventTable, ImpressionTable, OrganicTable, PersonTable, Table
from recloop.intake.readers import read_dataset
from recloop.schema import User, now_us
from recloop.store import add_users, find_user, open_store
from recloop.store.quarantine import held
from recloop.store.statements import Statement, add_statements
from recloop.store.tables import events, impressions

AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
ROWS = [
    {"event_id": f"f{n}", "user_id": "u", "item_id": f"i{n}", "kind": "click", "value": n + 0.5,
     "request_id": None, "ts": AT + timedelta(seconds=n)}
    for n in range(5)
]  # fmt: skip
BAD = ROWS[0] | {"event_id": "bad", "kind": "stare"}


SHOWN = [
    {"request_id": f"r{n // 2}", "position": n % 2, "user_id": "u", "item_id": f"i{n}", "propensity": 0.25,
     "policy": "old", "device": None, "ts": AT + timedelta(seconds=n // 2)}
    for n in range(6)
]  # fmt: skip
KINDS = [".csv", ".parquet", ".jsonl"]


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, default=str) + "\n" for row in rows))
        return path
    lines = [",".join(rows[0])]
    lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\ufeff" + "\n".join(lines))
    return path


def take(engine, table: Table):
    return import_into(engine, table, progress=False)


@pytest.mark.parametrize("suffix", KINDS)
def test_acts_are_read_as_they_are_and_only_once(tmp_path, store_url, suffix):
    engine, path = open_store(store_url), write(tmp_path / f"acts{suffix}", [*ROWS, BAD])
    report = take(engine, EventTable(path))
    assert report.added == {"users": 0, "items": 0, "impressions": 0, "events": 5}
    assert (report.tables["events"].read, report.tables["events"].quarantined) == (6, 1)
    with engine.connect() as connection:
        found = connection.execute(select(events).order_by(events.c.ts)).all()
    assert [(row.event_id, row.value) for row in found] == [(f"f{n}", n + 0.5) for n in range(5)]
    assert found[1].ts == 1_700_000_001_000_000
    (row,) = held(engine, 9)
    assert (row.source, json.loads(row.body)["event_id"]) == ("own", "bad")
    assert set(take(engine, EventTable(path)).added.values()) == {0}
    assert len(held(engine, 9)) == 1


def test_an_organic_act_is_an_impression_too_where_it_names_none(tmp_path, store_url):
    engine, path = (
        open_store(store_url),
        write(tmp_path / "a.csv", [*ROWS[:3], ROWS[3] | {"request_id": "r"}, BAD]),
    )
    for added in (4, 0):
        report = take(engine, OrganicTable(path))
        assert (report.added["events"], report.added["impressions"]) == (added, max(added - 1, 0))
    with engine.connect() as connection:
        acts = connection.execute(select(events).order_by(events.c.ts)).all()
        met = {row.request_id: row for row in connection.execute(select(impressions))}
    assert acts[3].request_id == "r"
    for act in acts[:3]:
        row = met[act.request_id]
        assert (row.user_id, row.item_id, row.ts, row.position) == (act.user_id, act.item_id, act.ts, 0)
        assert (row.propensity, row.policy) == (None, "organic")


@pytest.mark.parametrize("suffix", KINDS)
def test_what_was_shown_is_read_as_it_is_and_only_once(tmp_path, store_url, suffix):
    engine, path = open_store(store_url), write(tmp_path / f"shown{suffix}", SHOWN)
    assert take(engine, ImpressionTable(path)).added == {
        "users": 1,
        "items": 0,
        "impressions": 6,
        "events": 0,
    }
    with engine.connect() as connection:
        found = connection.execute(select(impressions).order_by("request_id", "position")).all()
    said = [
        (row.request_id, row.position, row.item_id, row.propensity, row.policy, row.device) for row in found
    ]
    assert said == [(f"r{n // 2}", n % 2, f"i{n}", 0.25, "old", "unknown") for n in range(6)]
    assert {row.ts for row in found} == {1_700_000_000_000_000 + n * 1_000_000 for n in range(3)}
    assert set(take(engine, ImpressionTable(path)).added.values()) == {0}
    assert held(engine, 9) == []


def test_an_impression_that_differs_from_what_is_known_is_quarantined_once(tmp_path, store_url):
    engine = open_store(store_url)
    twice = write(tmp_path / "a.csv", [SHOWN[0], SHOWN[1], SHOWN[0] | {"item_id": "other"}])
    assert take(engine, ImpressionTable(twice)).added["impressions"] == 2
    again = write(tmp_path / "b.csv", [SHOWN[0], SHOWN[1] | {"propensity": 0.5, "ts": AT}])
    for _ in range(2):
        assert take(engine, ImpressionTable(again)).added["impressions"] == 0
    second, first = held(engine, 9)
    assert (first.failure, first.reason) == ("duplicate", "position: the request has another item_id there")
    assert second.reason == "position: the request has another propensity there"
    assert (json.loads(first.body)["item_id"], json.loads(second.body)["propensity"]) == ("other", 0.5)


@pytest.mark.parametrize(
    ("change", "failure", "reason"),
    [
        ({"position": -1}, "range", "position: "),
        ({"propensity": 0}, "range", "propensity: "),
        ({"propensity": 1.5}, "range", "propensity: "),
        ({"user_id": "kim@example.org"}, "schema", "user_id: "),
        ({"ts": "yesterday"}, "schema", "ts: "),
        ({"ts": datetime(2999, 1, 1, tzinfo=UTC)}, "range", "ts: "),
        ({"colour": "red"}, "schema", "colour: "),
        ({"policy": "a\0b"}, "schema", "policy, slot: a NUL"),
    ],
)
def test_a_row_that_is_no_impression_is_refused(tmp_path, change, failure, reason):
    (batch,) = ImpressionTable(write(tmp_path / "a.parquet", [SHOWN[0] | change])).batches()
    (refused,) = batch.refused
    assert (batch.impressions, refused.kind, refused.failure) == ([], "impression", failure)
    assert refused.reason.startswith(reason)


def test_words_in_another_encoding_are_not_garbled(tmp_path):
    (tmp_path / "p.csv").write_bytes("user_id,region\na,서울\n".encode("cp949"))
    with pytest.raises(DatasetError, match="UTF-8"):
        PersonTable(tmp_path / "p.csv")


@pytest.mark.parametrize("suffix", KINDS)
def test_people_keep_what_a_row_does_not_name(tmp_path, store_url, suffix):
    engine = open_store(store_url)
    add_users(engine, [User(user_id="a", age=30, sex="F", attributes={"skill": "logo"}, created_at=7)])
    rows = [
        {"user_id": "a", "age": 31, "region": "서울", "attributes": '{"visits": 3}'},
        {"user_id": "b", "age": None, "region": "부산", "attributes": None},
        {"user_id": "c", "age": 300, "region": None, "attributes": None},
    ]
    report = take(engine, PersonTable(write(tmp_path / f"people{suffix}", rows)))
    assert (report.added["users"], report.tables["users"].quarantined) == (1, 1)
    known = {"skill": "logo", "visits": 3}
    assert find_user(engine, "a") == User(
        user_id="a", age=31, sex="F", region="서울", attributes=known, created_at=7
    )
    found = find_user(engine, "b")
    assert (found.age, found.region) == (None, "부산")
    assert abs(found.created_at - now_us()) < 600_000_000


def test_contact_data_of_people_is_refused_and_kept_nowhere(tmp_path, store_url):
    engine = open_store(store_url)
    rows = [
        {"user_id": "a", "email": "kim@example.org"},
        {"user_id": "b", "attributes": '{"Phone": "010-1234-5678"}'},
    ]
    assert take(engine, PersonTable(write(tmp_path / "p.jsonl", rows))).tables["users"].kept == 0
    bodies = [row.body for row in held(engine, 9)]
    assert len(bodies) == 2
    assert not any("kim@" in body or "1234" in body for body in bodies)


def test_only_who_agrees_comes_in(tmp_path, store_url, monkeypatch):
    monkeypatch.delenv("RECLOOP_CONSENT", raising=False)
    engine = open_store(store_url)
    add_statements(engine, [Statement("u", "service", True, 1, None)])
    people = write(tmp_path / "p.csv", [{"user_id": "u", "age": 30}, {"user_id": "v", "age": 40}])
    shown = write(tmp_path / "s.csv", [SHOWN[0], SHOWN[2] | {"user_id": "v"}])
    assert [take(engine, read_dataset(path)).unconsented for path in (people, shown)] == [1, 1]
    assert find_user(engine, "u").age == 30
    assert find_user(engine, "v") is None


@pytest.mark.parametrize(
    ("rows", "table"), [(ROWS, EventTable), (SHOWN, ImpressionTable), ([{"user_id": "u"}], PersonTable)]
)
def test_a_table_is_told_by_its_columns(tmp_path, rows, table):
    assert type(read_dataset(write(tmp_path / "a.parquet", rows))) is table


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("u,i,click,", "ts: "),
        ("u,i,click,yesterday", "ts: "),
        ("u,i,click,2023-11-14T22:13:20", "ts: "),
        ("u,i", "kind: "),
        ("u,i,click,1700000000000000,more", "fields without a column: no field"),
    ],
)
def test_a_bad_line_is_refused(tmp_path, line, reason):
    (tmp_path / "a.csv").write_text(f"user_id,item_id,kind,ts\nu,i,click,1700000000000000\n{line}\n")
    (batch,) = EventTable(tmp_path / "a.csv").batches()
    assert len(batch.events) == 1
    assert batch.refused[0].reason.startswith(reason)


def test_a_quotation_mark_that_is_left_open_is_named(tmp_path):
    good = "u,i,click,1700000000000000\n"
    (tmp_path / "a.csv").write_text('user_id,item_id,kind,ts\nu,"i,click,5\n' + good * 6000)
    with pytest.raises(DatasetError, match=r"a\.csv, line \d+: field larger .* quotation mark"):
        list(EventTable(tmp_path / "a.csv").batches())


def test_json_lines_are_read_as_a_log(tmp_path, store_url):
    acts = [row | {"ts": round(row["ts"].timestamp() * 1e6)} for row in ROWS]
    (tmp_path / "acts.jsonl").write_text("".join(json.dumps(act) + "\n" for act in acts))
    report = import_into(open_store(store_url), read_dataset(tmp_path / "acts.jsonl"), progress=False)
    assert report.added["events"] == 5


def test_what_is_no_table_of_acts_says_what_it_lacks(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DatasetError, match=r"no column user_id, item_id, kind, ts; its columns are a, b"):
        EventTable(tmp_path / "a.csv")
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(DatasetError, match="cannot read"):
        EventTable(tmp_path / "a.parquet")
    with pytest.raises(DatasetError, match="cannot read"):
        EventTable(tmp_path / "nothing.csv")

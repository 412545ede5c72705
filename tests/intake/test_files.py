"""Acts in CSV and Parquet: the same rows, the same refusals, imported once."""

import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.files import EventTable
from recloop.intake.readers import read_dataset
from recloop.store import open_store
from recloop.store.quarantine import held
from recloop.store.tables import events

AT = datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
ROWS = [
    {"event_id": f"f{n}", "user_id": "u", "item_id": f"i{n}", "kind": "click", "value": n + 0.5,
     "request_id": None, "ts": AT + timedelta(seconds=n)}
    for n in range(5)
]  # fmt: skip
BAD = ROWS[0] | {"event_id": "bad", "kind": "stare"}


def write(path, rows):
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return path
    lines = [",".join(rows[0])]
    lines += [",".join("" if v is None else str(v) for v in row.values()) for row in rows]
    path.write_text("\ufeff" + "\n".join(lines))
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_acts_are_read_as_they_are_and_only_once(tmp_path, store_url, suffix):
    engine, path = open_store(store_url), write(tmp_path / f"acts{suffix}", [*ROWS, BAD])
    report = import_into(engine, read_dataset(path), progress=False)
    assert report.added == {"users": 0, "items": 0, "impressions": 0, "events": 5}
    assert (report.tables["events"].read, report.tables["events"].quarantined) == (6, 1)
    with engine.connect() as connection:
        found = connection.execute(select(events).order_by(events.c.ts)).all()
    assert [(row.event_id, row.value) for row in found] == [(f"f{n}", n + 0.5) for n in range(5)]
    assert found[1].ts == 1_700_000_001_000_000
    (row,) = held(engine, 9)
    assert (row.source, json.loads(row.body)["event_id"]) == ("own", "bad")
    assert set(import_into(engine, read_dataset(path), progress=False).added.values()) == {0}
    assert len(held(engine, 9)) == 1


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

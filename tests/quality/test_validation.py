"""Clean passes, too much dirt stops, and a snapshot of another shape is refused by name."""

import json
from pathlib import Path

import great_expectations.expectations as gxe
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from great_expectations.expectations.expectation import ColumnMapExpectation
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import NOW, tables, world, write

from recloop.quality import SUITES, Check, QualityError, validate
from recloop.quality.checks import between
from recloop.quality.validation import sift
from recloop.schema.arrow import TABLES


def run(folder: Path, tolerated: float = 0.05):
    return validate(
        folder / "snapshot", folder / "valid", folder / "quarantine", folder / "docs", tolerated, NOW
    )


def test_a_clean_snapshot_passes_byte_for_byte(tmp_path):
    made = tables(*[world(n) for n in range(3)])
    write(tmp_path / "snapshot", made)
    report = run(tmp_path, tolerated=0.0)
    assert report.success == 1
    for name, table in made.items():
        assert report.tables[name].quarantined == 0
        assert set(report.tables[name].expectations.values()) == {0}
        valid = pq.read_table(tmp_path / "valid" / f"{name}.parquet")
        assert valid.schema.equals(TABLES[name])
        assert valid.to_pylist() == table.to_pylist()
        held = pq.read_table(tmp_path / "quarantine" / f"{name}.parquet")
        assert (held.num_rows, held.schema.names) == (0, [*TABLES[name].names, "reason"])
    assert json.loads(json.dumps(report.to_dict()))["events"]["rows"] == 30
    assert "impressions: 39 rows, 39 kept, 0 quarantined" in str(report)


def test_data_docs_name_every_suite_and_show_the_failures(tmp_path):
    one = world()
    one["users"][0]["age"] = 130
    write(tmp_path / "snapshot", tables(one))
    run(tmp_path, tolerated=1.0)
    run(tmp_path, tolerated=1.0)  # docs of an earlier run do not pile up
    index = (tmp_path / "docs" / "index.html").read_text()
    assert all(name in index for name in ("structure", *TABLES))
    (page,) = (tmp_path / "docs" / "validations" / "users").rglob("*.html")
    assert "130" in page.read_text()


@pytest.mark.parametrize(("bad", "stops"), [(1, False), (2, True)])
def test_the_tolerated_share_itself_is_tolerated(bad, stops, tmp_path):
    worlds = [world(0), world(1)]
    for number in range(bad):
        worlds[0]["events"][number]["value"] = -1.0
    write(tmp_path / "snapshot", tables(*worlds))  # 20 events: 5 % are one
    if not stops:
        assert run(tmp_path).tables["events"].quarantined == 1
        return
    with pytest.raises(QualityError) as caught:
        run(tmp_path)
    error = caught.value
    assert (error.expectation, error.count) == ("events.value_not_negative", 2)
    assert "2 of 20 events (10.0%) are bad and 5.0% are tolerated" in str(error)


def test_the_error_shows_three_rows_after_quarantine_and_docs_are_written(tmp_path):
    one = world()
    for row in one["events"][:5]:
        row["kind"] = "stare"
    write(tmp_path / "snapshot", tables(one))
    (tmp_path / "valid").mkdir()
    (tmp_path / "valid" / "events.parquet").write_bytes(b"of an earlier run")
    with pytest.raises(QualityError) as caught:
        run(tmp_path)
    error = caught.value
    assert [row["event_id"] for row in error.examples] == ["w0.e0click", "w0.e0rating", "w0.e1click"]
    assert str(error).count("'kind': 'stare'") == 3
    assert error.report.to_dict()["success"] == 0
    assert error.report.tables["events"].expectations["kind_in_set"] == 5
    assert pq.read_table(tmp_path / "quarantine" / "events.parquet").num_rows == 5
    assert (tmp_path / "docs" / "index.html").exists()
    assert not (tmp_path / "valid" / "events.parquet").exists()


def test_dirt_that_spreads_counts_where_it_arrives(tmp_path):
    one = world()
    one["users"][0]["age"] = 130
    write(tmp_path / "snapshot", tables(one))
    with pytest.raises(QualityError, match=r"users\.age_in_range fails for 1 rows; 1 of 4 users"):
        run(tmp_path, tolerated=0.2)
    with pytest.raises(QualityError, match=r"impressions\.user_known fails for 4 rows; 4 of 13"):
        run(tmp_path, tolerated=0.25)


def drop(table: pa.Table) -> pa.Table:
    return table.drop_columns(["ts"])


def extra(table: pa.Table) -> pa.Table:
    return table.append_column("email", pa.array(["a@example.org"] * table.num_rows))


def as_text(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("ts")
    return table.set_column(place, "ts", table["ts"].cast(pa.string()))


@pytest.mark.parametrize("name", ["impressions", "events"])
@pytest.mark.parametrize(
    ("change", "check"), [(drop, "column_present"), (extra, "column_known"), (as_text, "column_type")]
)
def test_another_shape_stops_the_flow(name, change, check, tmp_path):
    made = tables(world())
    write(tmp_path / "snapshot", made | {name: change(made[name])})
    with pytest.raises(QualityError) as caught:
        run(tmp_path, tolerated=1.0)
    assert (caught.value.expectation, caught.value.count) == (f"{name}.{check}", 1)
    assert caught.value.examples[0]["column"] in ("ts", "email")
    held = pq.read_table(tmp_path / "quarantine" / "structure.parquet").to_pylist()
    assert [(row["table"], row["reason"]) for row in held] == [(name, check)]
    assert (tmp_path / "docs" / "index.html").exists()


@pytest.mark.parametrize("name", ["items", "impressions"])
def test_an_empty_table_stops_the_flow(name, tmp_path):
    made = tables(world())
    write(tmp_path / "snapshot", made | {name: made[name].slice(0, 0)})
    with pytest.raises(QualityError, match=f"{name}.not_empty fails: there are 0 rows"):
        run(tmp_path, tolerated=1.0)


def declare(monkeypatch, *checks: Check) -> None:
    """The suite of items as somebody has extended it."""
    monkeypatch.setitem(SUITES, "items", [*SUITES["items"], *checks])


TITLED = {"column": "title", "regex": r"^Item \d$", "mostly": 0.7}
FUSED = {"column": "category", "value_set": ["c"], "mostly": 0.7}


@pytest.mark.parametrize(
    ("expectation", "spoilt"),
    [
        (gxe.ExpectColumnValuesToMatchRegex(**TITLED), {"title": "아무거나"}),
        (gxe.ExpectColumnValuesToBeInSet(**FUSED), {"category": "디자인"}),
        (
            gxe.ExpectColumnValuesToBeBetween(
                column="price", max_value=10, row_condition="price > 1", condition_parser="pandas", mostly=0.6
            ),
            {"price": 3e9},
        ),
    ],
    ids=["not fused", "fused", "some rows"],
)
def test_what_mostly_holds_moves_no_row(expectation, spoilt, tmp_path, monkeypatch):
    declare(monkeypatch, Check("mostly_so", expectation))
    one = world()
    one["items"][3] |= spoilt
    write(tmp_path / "snapshot", tables(one))
    report = run(tmp_path)
    assert (report.tables["items"].quarantined, report.tables["items"].expectations["mostly_so"]) == (0, 0)
    one["items"][2] |= spoilt
    write(tmp_path / "snapshot", tables(one))
    with pytest.raises(QualityError, match=r"items.mostly_so fails: there are 4 rows, 2 of them") as caught:
        run(tmp_path, tolerated=1.0)
    assert caught.value.count == 2


class ExpectWhatNobodyKnows(ColumnMapExpectation):
    map_metric = "column_values.never_heard_of"


@pytest.mark.parametrize(
    ("expectation", "said"),
    [
        (gxe.ExpectColumnValuesToNotBeNull(column="colour"), r'items.odd cannot be evaluated .*"colour" in'),
        (ExpectWhatNobodyKnows(column="title"), r"items.suite cannot be evaluated .*never_heard_of"),
    ],
)
def test_what_cannot_be_evaluated_is_named_with_its_file(expectation, said, tmp_path, monkeypatch):
    declare(monkeypatch, Check("odd", expectation))
    write(tmp_path / "snapshot", tables(world()))
    with pytest.raises(QualityError, match=said + r".*quality/suites\.py") as caught:
        run(tmp_path, tolerated=1.0)
    assert "Traceback" not in str(caught.value)


def test_two_checks_of_one_name_are_refused_since_one_would_hide_the_other(tmp_path, monkeypatch):
    declare(monkeypatch, between("price_not_negative", "price", None, 10**6))
    write(tmp_path / "snapshot", tables(world()))
    with pytest.raises(QualityError, match=r"items.price_not_negative is the name of two checks"):
        run(tmp_path, tolerated=1.0)


def test_no_events_yet_is_no_fault(tmp_path):
    made = tables(world())
    write(tmp_path / "snapshot", made | {"events": made["events"].slice(0, 0)})
    assert run(tmp_path).tables["events"].rows == 0


@pytest.mark.parametrize("damage", ["missing", "torn", "text"])
def test_a_file_that_cannot_be_read_is_named(damage, tmp_path):
    file = write(tmp_path / "snapshot", tables(world())) / "events.parquet"
    if damage == "missing":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-40] if damage == "torn" else b"user_id,age\n")
    with pytest.raises(QualityError, match=r"events\.parquet.*dvc repro") as caught:
        run(tmp_path)
    assert caught.value.expectation == "events.readable"


CELLS = [(table, column) for table, schema in TABLES.items() for column in schema.names]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.sampled_from(CELLS), st.integers(0, 99), st.integers(0, 99), st.booleans()), max_size=6
    )
)
def test_what_is_kept_needs_no_second_sifting(changes):
    """Whatever cells are emptied or swapped, the clean rows refer to clean rows only."""
    one = world()
    for (table, column), row, other, swap in changes:
        rows = one[table]
        value = rows[other % len(rows)][column] if swap else None
        rows[row % len(rows)][column] = value
    first = sift(tables(one), NOW)
    kept = {name: table.rows.filter((~table.bad).to_arrow()) for name, table in first.items()}
    again = sift(kept, NOW)
    assert {name: int(table.bad.sum()) for name, table in again.items()} == dict.fromkeys(TABLES, 0)


def test_the_clock_may_be_a_minute_off():
    one = world()
    one["events"][0]["ts"] = NOW + 60_000_000
    one["events"][1]["ts"] = NOW + 60_000_001
    failed = sift(tables(one), NOW)["events"].failed["ts_not_in_the_future"]
    assert failed.to_list()[:2] == [False, True]

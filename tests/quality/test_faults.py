"""Every kind of fault, each in a world of its own, is caught by the expectation named for it.

All worlds are judged in one run, so that Great Expectations is asked once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import polars as pl
import pyarrow.parquet as pq
import pytest
from worlds import NOW, SPAN, START, World, tables, world, write

from recloop.quality import SUITES, ValidationReport, validate
from recloop.quality.validation import sift
from recloop.schema.arrow import TABLES

FUTURE = NOW + 3_600_000_000
CASCADE = {"user_known", "item_known", "request_known", "rest_of_slate_clean"}


@dataclass(frozen=True)
class Fault:
    """A way to spoil a world: rows of ``table`` that must fail ``check``."""

    table: str
    check: str
    spoil: Callable[[World], object]
    rows: int = 1

    def __str__(self) -> str:
        return f"{self.table}.{self.check}"


def put(table: str, row: int = 0, **values: object) -> Callable[[World], object]:
    return lambda w: w[table][row].update(values)


def copy(table: str, row: int = 0, **values: object) -> Callable[[World], object]:
    return lambda w: w[table].append(w[table][row] | values)


def borrow(table: str, row: int, column: str, other: int) -> Callable[[World], object]:
    return lambda w: w[table][row].update({column: w[table][other][column]})


FAULTS = [
    Fault("users", "user_id_present", put("users", user_id=None)),
    Fault("users", "user_id_well_formed", put("users", user_id="Ann Lee")),
    Fault("users", "user_id_well_formed", put("users", user_id="x" * 65)),
    Fault("users", "user_id_well_formed", put("users", user_id="newline\n")),
    Fault("users", "user_id_well_formed", put("users", user_id="")),
    Fault("users", "user_id_unique", copy("users", age=77), rows=2),
    Fault("users", "age_in_range", put("users", age=121)),
    Fault("users", "age_in_range", put("users", age=-1)),
    Fault("users", "sex_in_set", put("users", sex="female")),
    Fault("users", "region_length", put("users", region="r" * 65)),
    Fault("users", "attributes_present", put("users", attributes=None)),
    Fault("users", "attributes_are_an_object", put("users", attributes="[1]")),
    Fault("users", "attributes_are_an_object", put("users", attributes='{"torn": ')),
    Fault("users", "created_at_present", put("users", created_at=None)),
    Fault("users", "created_at_not_in_the_future", put("users", created_at=FUTURE)),
    Fault("items", "item_id_present", put("items", item_id=None)),
    Fault("items", "item_id_well_formed", put("items", item_id="a/b")),
    Fault("items", "item_id_unique", copy("items"), rows=2),
    Fault("items", "title_present", put("items", title=None)),
    Fault("items", "title_length", put("items", title="")),
    Fault("items", "title_length", put("items", title="t" * 513)),
    Fault("items", "category_present", put("items", category=None)),
    Fault("items", "category_length", put("items", category="c" * 65)),
    Fault("items", "price_not_negative", put("items", price=-0.01)),
    Fault("items", "price_finite", put("items", price=float("inf"))),
    Fault("items", "price_finite", put("items", price=float("nan"))),
    Fault("items", "available_present", put("items", available=None)),
    Fault("items", "attributes_present", put("items", attributes=None)),
    Fault("items", "attributes_are_an_object", put("items", attributes="red")),
    Fault("items", "created_at_present", put("items", created_at=None)),
    Fault("items", "created_at_not_in_the_future", put("items", created_at=FUTURE)),
    Fault("impressions", "request_id_present", put("impressions", request_id=None)),
    Fault("impressions", "request_id_well_formed", put("impressions", request_id="?")),
    Fault("impressions", "position_present", put("impressions", position=None)),
    Fault("impressions", "position_in_range", put("impressions", position=-1)),
    Fault("impressions", "position_in_range", put("impressions", -1, position=1000)),
    Fault("impressions", "position_unique_in_request", borrow("impressions", 1, "position", 0), rows=2),
    Fault("impressions", "user_id_present", put("impressions", user_id=None)),
    Fault("impressions", "user_known", put("impressions", user_id="stranger")),
    Fault("impressions", "item_id_present", put("impressions", item_id=None)),
    Fault("impressions", "item_known", put("impressions", item_id="ghost")),
    Fault("impressions", "propensity_in_range", put("impressions", propensity=0.0)),
    Fault("impressions", "propensity_in_range", put("impressions", propensity=1.5)),
    Fault("impressions", "propensity_in_range", put("impressions", propensity=-0.5)),
    Fault("impressions", "propensity_finite", put("impressions", propensity=float("nan"))),
    Fault("impressions", "propensity_sum_at_position", copy("impressions", propensity=0.75), rows=2),
    Fault("impressions", "propensity_for_all_or_none", put("impressions", propensity=None), rows=3),
    Fault("impressions", "policy_present", put("impressions", policy=None)),
    Fault("impressions", "policy_length", put("impressions", policy="")),
    Fault("impressions", "slot_present", put("impressions", slot=None)),
    Fault("impressions", "slot_length", put("impressions", slot="s" * 17)),
    Fault("impressions", "device_present", put("impressions", device=None)),
    Fault("impressions", "device_length", put("impressions", device="d" * 33)),
    Fault("impressions", "partial_present", put("impressions", partial=None)),
    Fault("impressions", "ts_present", put("impressions", ts=None)),
    Fault("impressions", "ts_not_in_the_future", put("impressions", ts=FUTURE)),
    Fault("impressions", "slate_without_gaps", lambda w: w["impressions"].pop(1), rows=2),
    Fault("impressions", "slate_without_gaps", lambda w: w["impressions"].pop(0), rows=2),
    Fault("impressions", "item_once_in_slate", borrow("impressions", 1, "item_id", 0), rows=2),
    Fault("impressions", "request_of_one_person_and_policy", borrow("impressions", 1, "user_id", 4), rows=3),
    Fault("impressions", "request_of_one_person_and_policy", put("impressions", policy="other"), rows=3),
    Fault("impressions", "rest_of_slate_clean", put("impressions", item_id="ghost"), rows=2),
    Fault("events", "event_id_present", put("events", event_id=None)),
    Fault("events", "event_id_well_formed", put("events", event_id="e e")),
    Fault("events", "event_id_unique", copy("events"), rows=2),
    Fault("events", "user_id_present", put("events", user_id=None)),
    Fault("events", "user_known", put("events", -1, user_id="stranger")),
    Fault("events", "item_id_present", put("events", item_id=None)),
    Fault("events", "item_known", put("events", -1, item_id="ghost")),
    Fault("events", "kind_present", put("events", kind=None)),
    Fault("events", "kind_in_set", put("events", kind="stare")),
    Fault("events", "value_present", put("events", value=None)),
    Fault("events", "value_finite", put("events", value=float("inf"))),
    Fault("events", "value_not_negative", put("events", value=-1.0)),
    Fault("events", "rating_in_range", put("events", 1, value=5.5)),
    Fault("events", "request_known", put("events", request_id="never")),
    Fault("events", "request_of_the_same_person", borrow("events", 0, "user_id", 2)),
    Fault("events", "item_was_shown", borrow("events", 0, "item_id", 6)),
    Fault("events", "ts_present", put("events", ts=None)),
    Fault("events", "ts_not_in_the_future", put("events", ts=FUTURE)),
    Fault("events", "ts_not_before_impression", lambda w: w["events"][2].update(ts=w["events"][0]["ts"])),
]


@dataclass(frozen=True)
class Judged:
    report: ValidationReport
    quarantine: dict[str, list[dict]]
    valid: dict[str, list[dict]]


def spoilt() -> list[World]:
    """A world per fault, and a last one without any."""
    worlds = [world(number) for number in range(len(FAULTS) + 1)]
    for fault, one in zip(FAULTS, worlds, strict=False):
        fault.spoil(one)
    return worlds


@pytest.fixture(scope="module")
def judged(tmp_path_factory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    snapshot = write(folder / "snapshot", tables(*spoilt()))
    out = [folder / name for name in ("valid", "quarantine", "docs")]
    report = validate(snapshot, *out, tolerated_share=1.0, now=NOW)
    read = [
        {name: pq.read_table(part / f"{name}.parquet").to_pylist() for name in TABLES} for part in out[:2]
    ]
    return Judged(report, read[1], read[0])


def of_world(rows: list[dict], number: int) -> list[dict]:
    """The rows that belong to a world by an id or, where the fault took that, by their time."""
    start = START + number * SPAN
    found = []
    for row in rows:
        ids = [value for name, value in row.items() if name.endswith("_id") and value]
        when = row.get("ts") or row.get("created_at")
        by_time = when is not None and start <= when.timestamp() * 1e6 < start + SPAN
        if by_time or any(value.startswith(f"w{number}.") for value in ids):
            found.append(row)
    return found


@pytest.mark.parametrize("number", range(len(FAULTS)), ids=lambda n: f"{n}-{FAULTS[n]}")
def test_a_fault_is_caught_by_its_expectation(number, judged):
    fault = FAULTS[number]
    caught = {table: of_world(rows, number) for table, rows in judged.quarantine.items()}
    failing = [row for row in caught[fault.table] if fault.check in row["reason"].split(", ")]
    assert len(failing) == fault.rows, caught[fault.table]
    assert judged.report.tables[fault.table].expectations[fault.check] >= fault.rows
    for table, rows in caught.items():
        if table != fault.table:
            for row in rows:
                assert set(row["reason"].split(", ")) <= CASCADE, (table, row)
    upstream = list(TABLES)[: list(TABLES).index(fault.table)]
    assert not any(caught[table] for table in upstream), "a fault must not condemn what it refers to"
    kept = of_world(judged.valid[fault.table], number)
    before = {table: len(rows) for table, rows in spoilt()[number].items()}
    assert len(kept) + len(caught[fault.table]) == before[fault.table]
    assert kept, "the rest must go on"


def test_every_rule_of_the_suites_has_a_fault():
    rules = {
        (table, check.name) for table, suite in SUITES.items() for check in suite if check.name != "not_empty"
    }
    assert {(fault.table, fault.check) for fault in FAULTS} == rules


def test_the_judge_and_the_filter_count_the_same(judged):
    for table, sifted in sift(tables(*spoilt()), NOW).items():
        masks = {name: int(sifted.failed[name].sum()) for name in sifted.failed.columns}
        verdict = judged.report.tables[table].expectations
        assert {name: verdict[name] for name in masks} == masks, table
        assert len(judged.quarantine[table]) == int(sifted.bad.sum())


def test_a_world_without_fault_passes_whole_beside_the_spoilt_ones(judged):
    last = len(FAULTS)
    for table, rows in world(last).items():
        assert of_world(judged.quarantine[table], last) == []
        assert len(of_world(judged.valid[table], last)) == len(rows)


def test_a_quarantined_row_is_kept_as_it_was(judged):
    number = next(n for n, fault in enumerate(FAULTS) if fault.check == "kind_in_set")
    (row,) = of_world(judged.quarantine["events"], number)
    assert (row["kind"], row["reason"], row["event_id"]) == ("stare", "kind_in_set", f"w{number}.e0click")
    assert list(row) == [*TABLES["events"].names, "reason"]


def test_what_is_valid_has_exactly_the_agreed_schema(judged):
    assert all(list(judged.valid[name][0]) == schema.names for name, schema in TABLES.items())
    frame = pl.DataFrame(judged.valid["impressions"])
    assert frame["request_id"].is_not_null().all()

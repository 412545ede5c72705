"""The fused scan says what Great Expectations says on pandas: verdicts, counts and samples."""

import datetime as dt
import itertools
import random

import great_expectations.expectations as gxe
import polars as pl
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from worlds import NOW, tables, world

from benchmarks.validation import figures, on_pandas
from recloop.quality.checks import Check
from recloop.quality.engine import FrameData
from recloop.quality.judge import Judge
from recloop.quality.suites import SUITES
from recloop.quality.validation import sift
from recloop.schema.arrow import TABLES

FAULTS = 40


def spoil(seed: int) -> tuple[str, pl.DataFrame]:
    """A table of two worlds in which cells of one column, or rows, are spoilt; a fault for each seed."""
    luck = random.Random(seed)
    worlds = [world(0), world(1)]
    name = list(TABLES)[seed % len(TABLES)]
    rows = [row for one in worlds for row in one[name]]
    column = luck.choice(TABLES[name].names)
    old = rows[0][column]
    if isinstance(old, bool) or old is None:
        values = [None]
    elif isinstance(old, str):
        values = [None, "", "x" * 600, "newline\n", "\n", "한 글", rows[1][column]]
    elif isinstance(old, float):
        values = [None, -0.5, 1e300, float("nan"), float("inf"), 0.0]
    else:
        values = [None, -1, 2_000_000_000, rows[1][column]]
    for row in luck.sample(rows, luck.randint(1, 7)):
        row[column] = luck.choice(values)
    if luck.random() < 0.3:
        worlds[1][name].append(dict(luck.choice(rows)))
    return name, sift(tables(*worlds), NOW)[name].frame


@pytest.mark.slow
def test_forty_seeded_faults_are_judged_as_on_pandas(tmp_path):
    failed, caught, seeds = set(), 0, itertools.count()
    while caught < FAULTS:
        name, frame = spoil(seed := next(seeds))
        ours = figures(Judge(tmp_path / "docs").verdict(name, frame, SUITES[name]))
        frame.write_parquet(tmp_path / "t.parquet")
        scan = pl.scan_parquet(tmp_path / "t.parquet")
        assert figures(Judge(tmp_path / "docs").verdict(name, scan, SUITES[name])) == ours, (seed, name)
        theirs = figures(on_pandas(name, frame.to_pandas(), SUITES[name]))
        assert ours == theirs, (seed, name)
        bad = {(name, check) for check, found in theirs.items() if not found["success"]}
        failed, caught = failed | bad, caught + bool(bad)
    assert len(failed) > 25, failed


FRAME = pl.DataFrame(
    {
        "text": ["a", "", None, "a", "newline\n", "é", "x.y", "a-b"],
        "flag": [True, None, False, True, True, False, None, True],
        "number": [1.5, float("nan"), None, -0.0, 0.0, 1.5, float("inf"), -3.0],
        "small": pl.Series([1, 2, None, 2, 127, -128, 0, 3], dtype=pl.Int8),
        "whole": [3, 2, 2, 1, 9, 8, 7, 2**40],
        "other": ["a", "b", None, "c", "newline\n", "é", None, "a-b"],
        "ts": [dt.datetime(2024, 1, 1, tzinfo=dt.UTC)] * 7 + [None],
    }
)
PATTERNS = ["^a", "^$", "a$", "e$|^b$", "(e|b$)", r"a\$|e$", "[e$]", "e$e*", r"\<", r"e\\$", "[^a-z]"]
PATTERNS += [".{2}", "x.y", r"x\.y", "é", r"\w", "(?i)A", "[[a]", "a|b"]
COLUMNS = st.sampled_from(FRAME.columns)
NUMBER = st.one_of(st.none(), st.integers(-4, 9), st.sampled_from([0.5, 1.5, -3.0]))


def expectation(kind: int, column: str, other: str, low, high, strict: bool, pattern: str):
    """One of GX's expectations with these arguments; many make no sense for the column."""
    low, high = (high, low) if None not in (low, high) and low > high else (low, high)
    bounds = {"min_value": 0 if low is None and high is None else low, "max_value": high}
    return [
        lambda: gxe.ExpectColumnValuesToBeBetween(column=column, strict_min=strict, **bounds),
        lambda: gxe.ExpectColumnValueLengthsToBeBetween(column=column, strict_max=strict, **bounds),
        lambda: gxe.ExpectColumnValuesToMatchRegex(column=column, regex=pattern, mostly=0.5),
        lambda: gxe.ExpectColumnValuesToNotMatchRegex(column=column, regex=pattern),
        lambda: gxe.ExpectColumnValuesToBeInSet(column=column, value_set=["a", "é"]),
        lambda: gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True]),
        lambda: gxe.ExpectColumnValuesToNotBeInSet(column=column, value_set=[2, 1.5]),
        lambda: gxe.ExpectColumnValuesToBeUnique(column=column),
        lambda: gxe.ExpectColumnValuesToNotBeNull(column=column, mostly=0.8),
        lambda: gxe.ExpectColumnValuesToBeNull(column=column),
        lambda: gxe.ExpectCompoundColumnsToBeUnique(column_list=[column, other]),
        lambda: gxe.ExpectColumnPairValuesToBeEqual(column_A=column, column_B=other),
        lambda: gxe.ExpectColumnPairValuesToBeEqual(
            column_A=column, column_B=other, ignore_row_if="either_value_is_missing"
        ),
        lambda: gxe.ExpectColumnValuesToBeIncreasing(column=column),
        lambda: gxe.ExpectColumnMaxToBeBetween(column=column, **bounds),
        lambda: gxe.ExpectTableRowCountToBeBetween(min_value=9),
        lambda: gxe.ExpectTableColumnCountToEqual(value=7),
        lambda: gxe.ExpectColumnValuesToBeOfType(column=column, type_="float64"),
    ][kind]()


def compare(frame: pl.DataFrame, checks: list[Check], folder) -> dict:
    ours, theirs = (
        figures(verdict)
        for verdict in (
            Judge(folder / "docs").verdict("t", frame, checks),
            on_pandas("t", frame.to_pandas(), checks),
        )
    )
    for found in (*ours.values(), *theirs.values()):
        found["exception_info"] = "'raised_exception': True" in str(found["exception_info"])
    assert str(ours) == str(theirs)  # as text, in which NaN equals NaN
    return theirs


@settings(
    max_examples=25,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking would take minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    expectations=st.lists(
        st.builds(
            expectation, st.integers(0, 17), COLUMNS, COLUMNS, NUMBER, NUMBER, st.booleans(),
            st.sampled_from(PATTERNS),
        ),
        min_size=6,
        max_size=12,
        unique_by=str,
    ),
    rows=st.integers(0, 8),
)  # fmt: skip
def test_any_expectation_is_judged_as_on_pandas(expectations, rows, tmp_path):
    compare(FRAME.head(rows), [Check(str(n), one) for n, one in enumerate(expectations)], tmp_path)


def test_bounds_are_in_or_out_as_on_pandas(tmp_path):
    texts = FRAME.select("text", number=pl.col("number").fill_nan(None), small=pl.col("small").cast(pl.Int32))
    checks = []
    for strict in ({}, {"strict_min": True}, {"strict_max": True}):
        within = {"min_value": 1, "max_value": 3, **strict}
        checks += [gxe.ExpectColumnValuesToBeBetween(column=c, **within) for c in ("number", "small")]
        checks += [gxe.ExpectColumnValueLengthsToBeBetween(column="text", **within)]
    found = compare(texts, [Check(str(n), one) for n, one in enumerate(checks)], tmp_path)
    counts = [found[str(n)]["result"]["unexpected_count"] for n in range(9)]
    assert counts == [4, 3, 2, 4, 4, 5, 4, 4, 4]


def test_an_end_is_before_a_last_line_break_and_an_angle_bracket_is_itself_as_in_python(tmp_path):
    frame = pl.DataFrame({"text": ["abc\n", "abc", "abc\n\n", "a<b", "b$", "\n", ""]})
    patterns = ["^[a-z]+$", r"\<", r"a\<b", "^$", r"b\$$", "(c$|^b)", "c$", "[$]"]
    checks = [Check(p, gxe.ExpectColumnValuesToMatchRegex(column="text", regex=p)) for p in patterns]
    found = compare(frame, checks, tmp_path)
    assert [found[p]["result"]["unexpected_count"] for p in ("^[a-z]+$", "a\\<b", "^$")] == [5, 6, 5]
    assert checks[0].rows(frame.schema) is not None
    assert checks[3].rows(frame.schema) is not None


def test_the_suites_never_ask_for_a_pandas_frame(tmp_path, monkeypatch):
    monkeypatch.setattr(FrameData, "dataframe", property(lambda self: pytest.fail("converted to pandas")))
    judge = Judge(tmp_path)
    for name, table in sift(tables(world()), NOW).items():
        assert not any(judge.judge(name, table.frame, SUITES[name]).values())
        judged = [check.rows(table.frame.schema) is not None for check in SUITES[name]]
        assert all(judged) or SUITES[name][judged.index(False)].name == "not_empty"


def test_what_is_not_fused_is_judged_by_gx_itself(tmp_path):
    fallback = [
        Check("odd regex", gxe.ExpectColumnValuesToMatchRegex(column="text", regex=r"^\w$")),
        Check("some rows", gxe.ExpectColumnValuesToNotBeNull(
            column="text", row_condition="whole > 0", condition_parser="pandas"
        )),
        Check("order", gxe.ExpectColumnValuesToBeIncreasing(column="whole")),
    ]  # fmt: skip
    fused = [Check("fused", gxe.ExpectColumnValueLengthsToBeBetween(column="text", min_value=1))]
    broken = [Check("half a regex", gxe.ExpectColumnValuesToMatchRegex(column="other", regex="a("))]
    assert "True" in str(Judge(tmp_path).verdict("t", FRAME, broken).results[0].exception_info)
    found = compare(FRAME, fallback + fused + broken, tmp_path)
    assert {name: one["success"] for name, one in found.items()} == dict.fromkeys(found, False)
    assert [check.rows(FRAME.schema) is None for check in fallback + fused] == [True, True, True, False]

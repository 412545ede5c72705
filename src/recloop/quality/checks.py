"""A check: one expectation of Great Expectations and the Polars mask of the rows that fail it.

Great Expectations is the judge, whose verdict stands in the data docs; the mask is the row filter,
since a list of a million failed rows is more than the judge should carry. Both must count the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import great_expectations.expectations as gxe
import polars as pl
from great_expectations.expectations.expectation import Expectation

STRANGE = r"^$|[^A-Za-z0-9._:-]|.{65}"  # what no recloop.schema.Identifier holds


@dataclass(frozen=True)
class Check:
    """One rule of a table.

    Attributes:
        name: what the report and the quarantine call it.
        expectation: what Great Expectations judges.
        bad: true or null-safe false per row; None where the rule is about the table as a whole,
            whose failure always stops the flow.
    """

    name: str
    expectation: Expectation
    bad: pl.Expr | None


def not_null(column: str) -> Check:
    """The column has a value in every row."""
    return Check(
        f"{column}_present",
        gxe.ExpectColumnValuesToNotBeNull(column=column),
        pl.col(column).is_null(),
    )


def identifier(column: str) -> Check:
    """Values are 1 to 64 letters, digits or ``. _ : -``."""
    return Check(
        f"{column}_well_formed",
        gxe.ExpectColumnValuesToNotMatchRegex(column=column, regex=STRANGE),
        pl.col(column).str.contains(STRANGE),
    )


def between(name: str, column: str, low: float | None, high: float | None, above: bool = False) -> Check:
    """Values lie from low to high; with ``above``, low itself is out.

    NaN passes, as Great Expectations takes it for absent: ``holds("<column>_finite")`` speaks of it.
    """
    value = pl.col(column)
    bad = pl.lit(False)
    if low is not None:
        bad = bad | ((value <= low) if above else (value < low))
    if high is not None:
        bad = bad | (value > high)
    expectation = gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, strict_min=above
    )
    return Check(name, expectation, bad & value.is_not_nan())


def one_of(column: str, values: Iterable[str]) -> Check:
    """Values are among these."""
    allowed = sorted(values)
    return Check(
        f"{column}_in_set",
        gxe.ExpectColumnValuesToBeInSet(column=column, value_set=allowed),
        ~pl.col(column).is_in(allowed),
    )


def length(column: str, low: int, high: int) -> Check:
    """Texts have from low to high characters."""
    return Check(
        f"{column}_length",
        gxe.ExpectColumnValueLengthsToBeBetween(column=column, min_value=low, max_value=high),
        ~pl.col(column).str.len_chars().is_between(low, high),
    )


def unique(column: str) -> Check:
    """No two rows share a value; where some do, all of them are bad, since none can be told right."""
    return Check(
        f"{column}_unique",
        gxe.ExpectColumnValuesToBeUnique(column=column),
        pl.col(column).is_duplicated() & pl.col(column).is_not_null(),
    )


def unique_together(name: str, *columns: str) -> Check:
    """No two rows share all these values; where some do, all of them are bad."""
    return Check(
        name,
        gxe.ExpectCompoundColumnsToBeUnique(column_list=list(columns)),
        pl.struct(columns).is_duplicated() & ~pl.all_horizontal(pl.col(columns).is_null()),
    )


def holds(column: str) -> Check:
    """A derived column (see ``derived``) is true; the check has its name."""
    return Check(column, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True]), ~pl.col(column))


def same(name: str, left: str, right: str) -> Check:
    """Two columns agree wherever both have a value."""
    expectation = gxe.ExpectColumnPairValuesToBeEqual(
        column_A=left, column_B=right, ignore_row_if="either_value_is_missing"
    )
    return Check(name, expectation, pl.col(left) != pl.col(right))


def not_empty() -> Check:
    """The table has rows."""
    return Check("not_empty", gxe.ExpectTableRowCountToBeBetween(min_value=1), None)

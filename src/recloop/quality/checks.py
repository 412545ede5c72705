"""A check: one expectation of Great Expectations under the name that reports call it by.

Great Expectations is the judge, whose verdict stands in the data docs. The row filter takes the rows that
the expectation's own condition finds (``conditions``), so that both count the same.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import great_expectations.expectations as gxe
import polars as pl
from great_expectations.expectations.expectation import Expectation

from recloop.quality.conditions import failing

STRANGE = r"^$|[^A-Za-z0-9._:-]|.{65}"  # what no recloop.schema.Identifier holds


@dataclass(frozen=True)
class Check:
    """One rule of a table.

    Attributes:
        name: what the report and the quarantine call it.
        expectation: what Great Expectations judges. Where no rows can be named for it (``rows`` is None:
            there is no expression in Polars, or ``mostly`` lets some pass), it judges the table as a whole,
            and a failure always stops the flow.
    """

    name: str
    expectation: Expectation

    def rows(self, schema: pl.Schema) -> pl.Expr | None:
        """Boolean per row, never null: whether it fails."""
        kwargs = self.expectation.configuration.kwargs
        if kwargs.get("mostly", 1) != 1:
            return None
        return failing(getattr(self.expectation, "map_metric", ""), kwargs, schema)


def not_null(column: str) -> Check:
    """The column has a value in every row."""
    return Check(f"{column}_present", gxe.ExpectColumnValuesToNotBeNull(column=column))


def identifier(column: str) -> Check:
    """Values are 1 to 64 letters, digits or ``. _ : -``."""
    expectation = gxe.ExpectColumnValuesToNotMatchRegex(column=column, regex=STRANGE)
    return Check(f"{column}_well_formed", expectation)


def between(name: str, column: str, low: float | None, high: float | None, above: bool = False) -> Check:
    """Values lie from low to high; with ``above``, low itself is out.

    NaN passes, as Great Expectations takes it for absent: ``holds("<column>_finite")`` speaks of it.
    """
    expectation = gxe.ExpectColumnValuesToBeBetween(
        column=column, min_value=low, max_value=high, strict_min=above
    )
    return Check(name, expectation)


def one_of(column: str, values: Iterable[str]) -> Check:
    """Values are among these."""
    expectation = gxe.ExpectColumnValuesToBeInSet(column=column, value_set=sorted(map(str, values)))
    return Check(f"{column}_in_set", expectation)


def length(column: str, low: int, high: int) -> Check:
    """Texts have from low to high characters."""
    expectation = gxe.ExpectColumnValueLengthsToBeBetween(column=column, min_value=low, max_value=high)
    return Check(f"{column}_length", expectation)


def unique(column: str) -> Check:
    """No two rows share a value; where some do, all of them are bad, since none can be told right."""
    return Check(f"{column}_unique", gxe.ExpectColumnValuesToBeUnique(column=column))


def unique_together(name: str, *columns: str) -> Check:
    """No two rows share all these values; where some do, all of them are bad."""
    return Check(name, gxe.ExpectCompoundColumnsToBeUnique(column_list=list(columns)))


def holds(column: str) -> Check:
    """A derived column (see ``derived``) is true; the check has its name."""
    return Check(column, gxe.ExpectColumnValuesToBeInSet(column=column, value_set=[True]))


def same(name: str, left: str, right: str) -> Check:
    """Two columns agree wherever both have a value."""
    expectation = gxe.ExpectColumnPairValuesToBeEqual(
        column_A=left, column_B=right, ignore_row_if="either_value_is_missing"
    )
    return Check(name, expectation)


def not_empty() -> Check:
    """The table has rows."""
    return Check("not_empty", gxe.ExpectTableRowCountToBeBetween(min_value=1))

"""Conditions of Great Expectations as Polars expressions: the same rows, found in one scan of the frame.

A condition is what GX calls a map metric (``column_values.between`` and its like) with its arguments. What
cannot be said in Polars with the very same rows as GX on pandas has no expression: GX evaluates it itself.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

Condition = Callable[[Mapping[str, Any], pl.Schema], pl.Expr | None]
NUMBERS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.Float64)
HASHABLE = (*NUMBERS, pl.String, pl.Boolean)
FEW = 16  # values of a set that are compared one by one
DEFAULTS = {"row_condition": (None,), "ignore_row_if": ("all_values_are_missing", "either_value_is_missing")}
ODD_REGEX = re.compile(  # engines differ in these
    r"[^ -~]|\\[A-Za-z0-9<>\\]|\(\?|&&|--|~~|\[[^\]]*[\[$]|[*+?}]\+|(?<!\\)\$[^|)]"
)
END = re.compile(r"(?<!\\)\$")  # in Python it stands before a last line break, too


def failing(metric: str, kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    """Boolean per row, never null: whether it fails the condition; None where GX itself has to find out.

    Args:
        metric: GX's name of the condition, such as ``column_values.in_set``.
        kwargs: the domain and the arguments of it.
        schema: of the frame; a column that it lacks, or that is named twice, gives None.
    """
    columns = columns_of(kwargs)
    if metric not in CONDITIONS or not columns or len({*columns} & {*schema}) < len(columns):
        return None
    if any(kwargs.get(name) not in (None, *usual) for name, usual in DEFAULTS.items()):
        return None
    bad = CONDITIONS[metric](kwargs, schema)
    if bad is None or metric in OF_NULLS or len(columns) > 1:
        return bad
    return bad.fill_null(False) & ~missing(columns[0], schema)


def missing(column: str, schema: pl.Schema) -> pl.Expr:
    """Whether pandas takes the value for absent: null, or NaN."""
    value = pl.col(column)
    return value.is_null() | value.is_nan().fill_null(True) if schema[column].is_float() else value.is_null()


def considered(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr:
    """Boolean per row: whether a condition on several columns takes the row into account."""
    absent = [missing(column, schema) for column in columns_of(kwargs)]
    return ~(pl.any_horizontal(absent) if "column_A" in kwargs else pl.all_horizontal(absent))


def columns_of(kwargs: Mapping[str, Any]) -> list[str]:
    """The columns that a domain names."""
    if "column" in kwargs:
        return [kwargs["column"]]
    if "column_list" in kwargs:
        return list(kwargs["column_list"])
    return [kwargs[name] for name in ("column_A", "column_B") if name in kwargs]


def _between(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    value = pl.col(kwargs["column"])
    return _outside(value, kwargs) if schema[kwargs["column"]] in NUMBERS else None


def _length(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    size = pl.col(kwargs["column"]).str.len_chars()
    return _outside(size, kwargs) if schema[kwargs["column"]] == pl.String else None


def _outside(value: pl.Expr, kwargs: Mapping[str, Any]) -> pl.Expr | None:
    low, high = kwargs.get("min_value"), kwargs.get("max_value")
    bounds = [bound for bound in (low, high) if bound is not None]
    if not bounds or not all(type(b) in (int, float) for b in bounds) or bounds[0] > bounds[-1]:
        return None
    bad = pl.lit(False)
    if low is not None:
        bad = bad | ((value <= low) if kwargs.get("strict_min") else (value < low))
    if high is not None:
        bad = bad | ((value >= high) if kwargs.get("strict_max") else (value > high))
    return bad


def _in_set(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    kind, values = schema[kwargs["column"]], kwargs.get("value_set")
    wanted = {pl.String: str, pl.Boolean: bool}.get(type(kind))
    if not values or wanted is None or not all(type(value) is wanted for value in values):
        return None
    value = pl.col(kwargs["column"])
    if len(values) > FEW:
        return value.is_in(list(values))
    return pl.any_horizontal([value == one for one in values])  # a third of the time


def _matches(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    if schema[kwargs["column"]] != pl.String or ODD_REGEX.search(kwargs["regex"]):
        return None
    return pl.col(kwargs["column"]).str.contains(END.sub(r"\\n?\\z", kwargs["regex"]))


def _not(condition: Condition) -> Condition:
    def opposite(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
        found = condition(kwargs, schema)
        return None if found is None else ~found

    return opposite


def _repeated(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    columns = columns_of(kwargs)
    if any(schema[column] not in HASHABLE for column in columns):
        return None
    key = key_of(kwargs, schema)
    return key.map_batches(
        lambda values: occurs_twice(values.hash(), lambda suspect: values.gather(suspect)),
        return_dtype=pl.Boolean,
    ) & considered({"column_list": columns}, schema)


def key_of(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr:
    """What must not occur twice, of a condition in ``OF_KEYS``."""
    columns = columns_of(kwargs)
    values = [pl.col(c).fill_nan(None) if schema[c].is_float() else pl.col(c) for c in columns]
    return values[0] if len(values) == 1 else pl.struct(values)


def occurs_twice(hashes: pl.Series, values: Callable[[np.ndarray], pl.Series]) -> pl.Series:
    """Boolean per row: whether another row holds the same.

    Hashes tell who is suspect, and only what these rows hold, which ``values`` gives, is compared.
    """
    ordered = np.sort(hashes.to_numpy())
    shared = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    twice = np.zeros(len(hashes), bool)
    if len(shared):
        suspect = np.flatnonzero(hashes.is_in(pl.Series(shared).implode()).to_numpy())
        twice[suspect] = values(suspect).is_duplicated().to_numpy()
    return pl.Series(twice)


def _differ(kwargs: Mapping[str, Any], schema: pl.Schema) -> pl.Expr | None:
    left, right = kwargs["column_A"], kwargs["column_B"]
    same_kind = schema[left] == schema[right] and schema[left] in (pl.String, pl.Boolean)
    if not same_kind or kwargs.get("ignore_row_if") != "either_value_is_missing":
        return None
    return (pl.col(left) != pl.col(right)).fill_null(False)


OF_NULLS = {"column_values.nonnull", "column_values.null"}
OF_KEYS = {"column_values.unique", "compound_columns.unique"}
CONDITIONS: dict[str, Condition] = {
    "column_values.nonnull": lambda kwargs, schema: missing(kwargs["column"], schema),
    "column_values.null": lambda kwargs, schema: ~missing(kwargs["column"], schema),
    "column_values.between": _between,
    "column_values.value_length.between": _length,
    "column_values.in_set": _not(_in_set),
    "column_values.not_in_set": _in_set,
    "column_values.match_regex": _not(_matches),
    "column_values.not_match_regex": _matches,
    "column_values.unique": _repeated,
    "compound_columns.unique": _repeated,
    "column_pair_values.equal": _differ,
}

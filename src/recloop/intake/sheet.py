"""A delimited file as text columns whose rows are judged one rule at a time."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from recloop.intake.source import DatasetError, TableReport
from recloop.schema import Failure
from recloop.store import Refused


@dataclass
class Sheet:
    """The rows of one file that no rule has refused yet.

    Attributes:
        rows: ``line`` (1-based), ``text`` (the line as it came), then one column per field.
        read: rows of the file, the header left out.
        refused: what the rules turned down, in the order of the rules.
    """

    source: str
    table: str
    path: Path
    rows: pl.DataFrame
    read: int
    refused: list[Refused] = field(default_factory=list)

    def refuse(self, bad: pl.Expr, reason: str, failure: Failure = Failure.SCHEMA) -> None:
        """Move the rows for which ``bad`` is true to ``refused``."""
        mask = self.rows.select(bad.fill_null(False).alias("bad"))["bad"]
        if not mask.any():
            return
        for line, text in self.rows.filter(mask).select("line", "text").iter_rows():
            body = {"file": self.path.name, "line": line, "text": text}
            self.refused.append(Refused(self.source, self.table, reason, body, failure))
        self.rows = self.rows.filter(~mask)

    def number(self, name: str, low: float, high: float, dtype: type[pl.DataType]) -> None:
        """Turn a text column into numbers; what is no number from low to high is refused."""
        value = pl.col(name).str.strip_chars().cast(dtype, strict=False)
        outside = ~value.is_between(low, high).fill_null(False)
        self.refuse(outside, f"{name}: no number from {low} to {high}", Failure.RANGE)
        self.rows = self.rows.with_columns(value)

    def once(self, *names: str) -> None:
        """Refuse every row that repeats an earlier one in these columns."""
        repeats = ~pl.struct(names).is_first_distinct()
        self.refuse(repeats, f"{' and '.join(names)}: repeats an earlier row", Failure.DUPLICATE)

    def identified(self, *names: str) -> None:
        """Refuse the rows whose identifier is empty, too long or has unusual characters."""
        for name in names:
            fits = pl.col(name).str.contains(r"^[A-Za-z0-9._:-]{1,24}$")
            self.refuse(~fits, f"{name}: an identifier is 1 to 24 letters, digits or . _ : -")

    def report(self) -> TableReport:
        """Rows read, kept and quarantined.

        Raises:
            DatasetError: not one row was fit.
        """
        if self.rows.is_empty():
            most = TableReport.of(self.read, self.refused).reasons
            raise DatasetError(
                f"{self.path}: none of {self.read:,} rows can be used ({_first(most)});"
                " is it the file of another dataset, or damaged?"
            )
        return TableReport.of(self.read, self.refused)


def read_sheet(
    path: Path,
    source: str,
    table: str,
    columns: list[str],
    separator: str,
    header: Mapping[str, str] | None = None,
    quoted: bool = False,
    encoding: str = "utf-8",
) -> Sheet:
    """Read a file; rows with another number of fields or broken characters are refused.

    Args:
        columns: the fields in order, or with ``header`` in any order.
        header: how the file's first line names the columns (published name to column); RecBole's
            ``:type`` after a name is left out, other fields are ignored.
        quoted: fields may stand in double quotes and then hold the separator.

    Raises:
        DatasetError: the file is missing, empty, torn in its last line, or has another header.
    """
    text = _whole(path, encoding)
    lines = pl.Series("text", [text]).str.split("\n").explode().str.strip_chars_end("\r")
    rows = pl.DataFrame({"text": lines}).with_row_index("line", offset=1).head(-1)
    if header is not None:
        found = [name.split(":")[0].strip() for name in rows["text"][0].lstrip("\ufeff").split(separator)]
        names = [header.get(name, name) for name in found]
        missing = [name for name in columns if name not in names]
        if missing:
            published = {column: name for name, column in header.items()}
            raise DatasetError(
                f"{path} has no column {', '.join(published.get(name, name) for name in missing)}; its header"
                f" names {', '.join(found[:12])}. Is it the file of another dataset?"
            )
        rows = rows.slice(1)
    else:
        names = columns
    if rows.is_empty():
        raise DatasetError(f"{path} has a header and no rows: copy or download it again")
    fields = pl.col("text").str.split(separator)
    if quoted:
        fields = pl.col("text").map_elements(_unquote, return_dtype=pl.List(pl.String))
    rows = rows.with_columns(fields=fields)
    sheet = Sheet(source, table, path, rows, len(rows))
    sheet.refuse(pl.col("text").str.contains("\ufffd", literal=True), f"bytes that are not {encoding}")
    sheet.refuse(pl.col("fields").list.len() != len(names), f"not {len(names)} fields")
    picked = [pl.col("fields").list.get(names.index(name)).alias(name) for name in columns]
    sheet.rows = sheet.rows.select("line", "text", *picked)
    return sheet


def _whole(path: Path, encoding: str) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read {path}: {error.strerror}; is the folder the right one?") from error
    if not data.strip():
        raise DatasetError(f"{path} is empty: copy or download it again")
    if not data.endswith(b"\n"):
        line = data.count(b"\n") + 1
        raise DatasetError(
            f"{path} ends within line {line:,}: it is truncated, copy or download it again"
            " (if it is complete, end its last line with a newline)"
        )
    return data.decode(encoding, errors="replace")


def _unquote(text: str) -> list[str]:
    return next(csv.reader([text]), [])


def _first(reasons: dict[str, int]) -> str:
    return next((f"{count:,} × {reason}" for reason, count in reasons.items()), "no reason")

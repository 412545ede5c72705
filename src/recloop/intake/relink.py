"""A source's events under the names that ``match`` gave to its people and items."""

from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl

from recloop.intake.match import read_table
from recloop.intake.source import DatasetError

WRITERS: dict[str, Callable[[pl.DataFrame, Path], object]] = {
    ".csv": pl.DataFrame.write_csv,
    ".parquet": pl.DataFrame.write_parquet,
    ".jsonl": pl.DataFrame.write_ndjson,
}


def relink(events: Path, source: str, links: Mapping[str, Path], out: Path) -> int:
    """Write the rows of ``events`` to ``out`` with new ids, all else as it was; how many rows.

    ``links`` has the file of names that ``Links.save`` wrote, by the column that it renames.

    Raises:
        DatasetError: a file cannot be read or is of no known kind, a column is missing, or an id of the
            source has no name.
    """
    table = read_table(events)
    for column, path in links.items():
        if column not in table.columns:
            raise DatasetError(f"{events} has no column {column}; it has {', '.join(table.columns[:12])}")
        known = read_table(path).filter(pl.col("source") == source).select(pl.col("id").alias(column), "name")
        order = table.columns
        table = table.with_columns(pl.col(column).cast(pl.String)).join(
            known, on=column, how="left", maintain_order="left"
        )
        if lost := table.filter(pl.col("name").is_null())[column].unique(maintain_order=True).to_list():
            why = f"{path} has no name for ids of {source} in {events}: {lost[0]} is the first of {len(lost)}"
            raise DatasetError(f"{why}: put their records into the source's file and match again")
        table = table.drop(column).rename({"name": column}).select(order)
    if out.suffix not in WRITERS:
        raise DatasetError(f"{out} is none of {', '.join(WRITERS)}")
    WRITERS[out.suffix](table, out)
    return len(table)

"""From a snapshot to clean rows and quarantined rows."""

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from recloop.quality.checks import Check
from recloop.quality.derived import (
    derive_events,
    derive_impressions,
    derive_items,
    derive_rest_of_slate,
    derive_users,
)
from recloop.quality.judge import Judge
from recloop.quality.report import QualityError, TableVerdict, ValidationReport
from recloop.quality.suites import STRUCTURE, SUITES
from recloop.schema import now_us
from recloop.schema.arrow import TABLES

CASCADE = "rest_of_slate_clean"


@dataclass(frozen=True)
class Sifted:
    """A table with its derived columns and, per check, which rows fail it."""

    rows: pa.Table
    frame: pl.DataFrame
    failed: pl.DataFrame

    @property
    def bad(self) -> pl.Series:
        """Rows that fail any check."""
        return _any(self.failed)

    @property
    def clean(self) -> pl.DataFrame:
        """Rows that fail none."""
        return self.frame.filter(~self.bad)


def validate(
    snapshot: Path,
    valid: Path,
    quarantine: Path,
    docs: Path,
    tolerated_share: float,
    now: int | None = None,
) -> ValidationReport:
    """Judge a snapshot, write clean rows to ``valid``, bad ones to ``quarantine``, and data docs.

    A row that refers to a quarantined row is bad itself. ``<quarantine>/<table>.parquet`` holds the
    row and ``reason``: the names of all checks that it failed.

    Args:
        tolerated_share: the share of a table's rows that may be bad.
        now: µs since 1970; what lies after it is in the future. The wall clock by default.

    Raises:
        QualityError: a file, column or type is not as agreed, there are no items or impressions, or
            more rows are bad than tolerated. Quarantine and data docs are written before.
    """
    for folder in (valid, quarantine):
        folder.mkdir(parents=True, exist_ok=True)
        for name in (*TABLES, "structure"):
            (folder / f"{name}.parquet").unlink(missing_ok=True)
    judge = Judge(docs)
    tables = {name: _read(snapshot / f"{name}.parquet") for name in TABLES}
    _check_structure(tables, judge, quarantine)
    sifted = sift(tables, now_us() if now is None else now)
    verdicts = {}
    for name, table in tqdm(sifted.items(), desc="validate", unit="table", mininterval=1):
        counts = judge.judge(name, table.frame, SUITES[name])
        bad = table.bad
        verdicts[name] = TableVerdict(len(bad), len(bad) - int(bad.sum()), int(bad.sum()), counts)
        pq.write_table(_with_reason(table), quarantine / f"{name}.parquet", compression="zstd")
    judge.write_docs()
    _stop_if_unfit(sifted, verdicts, tolerated_share, quarantine)
    for name, table in sifted.items():
        kept = table.rows.filter((~table.bad).to_arrow()).cast(TABLES[name])
        pq.write_table(kept, valid / f"{name}.parquet", compression="zstd")
    return ValidationReport(1, verdicts)


def sift(tables: dict[str, pa.Table], now: int) -> dict[str, Sifted]:
    """Per table, which rows fail which check; tables later in the order refer to the clean rows."""
    users = _sift(tables, "users", derive_users(_frame(tables["users"]), now))
    items = _sift(tables, "items", derive_items(_frame(tables["items"]), now))
    shown = derive_impressions(_frame(tables["impressions"]), users.clean, items.clean, now)
    by_themselves = [check for check in SUITES["impressions"] if check.name != CASCADE]
    spoilt = _any(_failed(shown, by_themselves))
    impressions = _sift(tables, "impressions", derive_rest_of_slate(shown, spoilt))
    acts = derive_events(_frame(tables["events"]), users.clean, items.clean, impressions.clean, now)
    return {
        "users": users,
        "items": items,
        "impressions": impressions,
        "events": _sift(tables, "events", acts),
    }


def _read(file: Path) -> pa.Table:
    try:
        return pq.read_table(file, partitioning=None)
    except (OSError, pa.ArrowException) as error:
        name = f"{file.stem}.readable"
        raise QualityError(
            f"{name}: cannot read {file} ({error}); make the snapshot again with `dvc repro -f snapshot`",
            name,
            1,
            [],
            ValidationReport(0, {}),
        ) from error


def _check_structure(tables: dict[str, pa.Table], judge: Judge, quarantine: Path) -> None:
    rows = []
    for name, contract in TABLES.items():
        found = tables[name].schema
        for column in dict.fromkeys([*contract.names, *found.names]):
            rows.append(
                {
                    "table": name,
                    "column": column,
                    "type": str(found.field(column).type) if column in found.names else None,
                    "contract": str(contract.field(column).type) if column in contract.names else None,
                }
            )
    frame = pl.DataFrame(rows, schema=dict.fromkeys(("table", "column", "type", "contract"), pl.String))
    counts = judge.judge("structure", frame, STRUCTURE)
    if not any(counts.values()):
        return
    structure = Sifted(frame.to_arrow(), frame, _failed(frame, STRUCTURE))
    pq.write_table(_with_reason(structure), quarantine / "structure.parquet")
    judge.write_docs()
    bad = structure.bad
    verdict = TableVerdict(len(bad), len(bad) - int(bad.sum()), int(bad.sum()), counts)
    check = max(counts, key=lambda name: counts[name])
    examples = _examples(structure, check)
    name = f"{examples[0]['table']}.{check}"
    raise QualityError(
        f"{name} fails for {counts[check]} columns: the snapshot is not of this program's schema",
        name,
        counts[check],
        examples,
        ValidationReport(0, {"structure": verdict}),
    )


def _stop_if_unfit(
    sifted: dict[str, Sifted], verdicts: dict[str, TableVerdict], tolerated: float, quarantine: Path
) -> None:
    report = ValidationReport(0, verdicts)
    for table, verdict in verdicts.items():
        for check in SUITES[table]:
            if check.name not in sifted[table].failed.columns and verdict.expectations[check.name]:
                name, count = f"{table}.{check.name}", verdict.expectations[check.name]
                said = f"{name} fails: there are {verdict.rows} rows"
                if verdict.rows:
                    said += f", {count:,} of them against it" if count > 1 else ""
                    said += "; it judges the table as a whole, and reports/data_docs shows what it found"
                raise QualityError(said, name, count, [], report)
        if verdict.quarantined > tolerated * verdict.rows:
            worst = max(verdict.expectations, key=lambda name: verdict.expectations[name])
            count, name = verdict.expectations[worst], f"{table}.{worst}"
            raise QualityError(
                f"{name} fails for {count:,} rows; {verdict.quarantined:,} of {verdict.rows:,} {table}"
                f" ({verdict.quarantined / verdict.rows:.1%}) are bad and {tolerated:.1%} are tolerated"
                f" (quality.tolerated_share in params.yaml); all are in {quarantine / table}.parquet",
                name,
                count,
                _examples(sifted[table], worst),
                report,
            )


def _frame(table: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _sift(tables: dict[str, pa.Table], name: str, frame: pl.DataFrame) -> Sifted:
    return Sifted(tables[name], frame, _failed(frame, SUITES[name]))


def _failed(frame: pl.DataFrame, checks: list[Check]) -> pl.DataFrame:
    rows = {check.name: check.rows(frame.schema) for check in checks}
    return frame.select(**{name: bad for name, bad in rows.items() if bad is not None})


def _any(failed: pl.DataFrame) -> pl.Series:
    return failed.select(pl.any_horizontal(pl.all()).alias("bad"))["bad"]


def _with_reason(table: Sifted) -> pa.Table:
    bad = table.bad
    names = [pl.when(name).then(pl.lit(name)) for name in table.failed.columns]
    reasons = table.failed.filter(bad).select(pl.concat_str(names, separator=", ", ignore_nulls=True))
    reason = reasons.to_series().cast(pl.String).to_arrow().cast(pa.string())
    return table.rows.filter(bad.to_arrow()).append_column("reason", reason)


def _examples(table: Sifted, check: str) -> list[dict]:
    return table.rows.filter(table.failed[check].to_arrow()).slice(0, 3).to_pylist()

"""What a validation found, as figures and as an error that names the cause."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class TableVerdict:
    """One table: its rows, and per expectation how many failed it (a row may fail several)."""

    rows: int
    kept: int
    quarantined: int
    expectations: dict[str, int]


@dataclass(frozen=True)
class ValidationReport:
    """All tables; ``success`` is 1 where the flow may go on."""

    success: int
    tables: dict[str, TableVerdict]

    def to_dict(self) -> dict:
        """Plain numbers, as ``dvc metrics`` shows them."""
        return {
            "success": self.success,
            **{name: asdict(verdict) for name, verdict in self.tables.items()},
        }

    def __str__(self) -> str:
        lines = []
        for name, verdict in self.tables.items():
            failed = {check: count for check, count in verdict.expectations.items() if count}
            why = ", ".join(f"{count:,} × {check}" for check, count in failed.items())
            lines.append(
                f"{name}: {verdict.rows:,} rows, {verdict.kept:,} kept,"
                f" {verdict.quarantined:,} quarantined" + (f" ({why})" if why else "")
            )
        return "\n".join(lines)


class QualityError(ValueError):
    """The snapshot is not fit to learn from.

    Attributes:
        expectation: ``<table>.<check>`` that failed most.
        count: rows that failed it.
        examples: up to three of them.
        report: the figures of all that was judged.
    """

    def __init__(
        self, message: str, expectation: str, count: int, examples: list[dict], report: ValidationReport
    ) -> None:
        shown = "".join(f"\n  {row}" for row in examples)
        super().__init__(message + (f"; for example{shown}" if shown else ""))
        self.expectation = expectation
        self.count = count
        self.examples = examples
        self.report = report

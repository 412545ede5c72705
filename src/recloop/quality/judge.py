"""Great Expectations at work: suites in, verdicts and data docs out."""

import os
from pathlib import Path
from typing import Any

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read when the library is imported

import great_expectations as gx
import polars as pl
from great_expectations.core import ExpectationSuiteValidationResult
from great_expectations.core.batch_definition import BatchDefinition
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import GreatExpectationsError

from recloop.quality.checks import Check
from recloop.quality.engine import PolarsDatasource
from recloop.quality.report import QualityError, ValidationReport

SITE = "data_docs"
RESULT = {"result_format": "BASIC", "partial_unexpected_count": 5}


class Judge:
    """Runs suites in an ephemeral context that keeps nothing but the data docs."""

    def __init__(self, docs: Path) -> None:
        self._context = gx.get_context(mode="ephemeral")
        self._context.variables.progress_bars = ProgressBarsConfig(globally=False)
        source = self._context.data_sources.add_or_update_polars(name="snapshot")
        assert isinstance(source, PolarsDatasource)
        self._source = source
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(docs.resolve())}
        site: Any = {
            "class_name": "SiteBuilder",
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            "store_backend": backend,
        }
        for name in self._context.get_site_names():
            self._context.delete_data_docs_site(name)
        self._context.add_data_docs_site(SITE, site)
        self._context.clean_data_docs(site_name=SITE)

    def judge(self, table: str, frame: pl.DataFrame | pl.LazyFrame, checks: list[Check]) -> dict[str, int]:
        """Rows that fail, per name of a check: 0 where Great Expectations is content with what it found, 1
        for a failed check that counts no rows.

        Raises:
            QualityError: an expectation could not be evaluated, or two checks have the same name.
        """
        names = [check.name for check in checks]
        if twice := {name for name in names if names.count(name) > 1}:
            raise _unfit(table, min(twice), "is the name of two checks: give one of them another")
        try:
            results = self.verdict(table, frame, checks).results
        except GreatExpectationsError as error:
            raise _unfit(table, "suite", f"cannot be evaluated by Great Expectations ({error})") from error
        counts = {}
        for result in results:
            assert result.expectation_config is not None
            name = result.expectation_config.meta["name"]
            if result.exception_info.get("raised_exception", True):
                why = "; ".join(sorted(_messages(result.exception_info)))
                raise _unfit(table, name, f"cannot be evaluated by Great Expectations ({why})")
            failed = max(1, result.result.get("unexpected_count") or 0)
            counts[name] = 0 if result.success else int(failed)
        return {check.name: counts[check.name] for check in checks}

    def verdict(
        self, table: str, frame: pl.DataFrame | pl.LazyFrame, checks: list[Check]
    ) -> ExpectationSuiteValidationResult:
        """What Great Expectations says of the table; the data docs will show it.

        Of a ``LazyFrame`` that scans a file only the columns that the checks name are read.
        """
        batch = self._source.add_frame_asset(table).add_batch_definition_whole_dataframe("whole")
        return run_suite(self._context, table, batch, frame, checks)

    def write_docs(self) -> None:
        """Write the data docs of all that was judged; ``index.html`` is where to begin."""
        self._context.build_data_docs(site_names=[SITE])


def _messages(info: dict) -> set[str]:
    """What GX noted of an expectation, once, or once for each metric."""
    if "exception_message" in info:
        return {str(info["exception_message"])}
    return {str(one["exception_message"]) for one in info.values() if isinstance(one, dict)}


def _unfit(table: str, check: str, why: str) -> QualityError:
    name = f"{table}.{check}"
    said = f"{name} {why}; it is declared in src/recloop/quality/suites.py"
    return QualityError(said, name, 0, [], ValidationReport(0, {}))


def run_suite(
    context: EphemeralDataContext, table: str, batch: BatchDefinition, frame: Any, checks: list[Check]
) -> ExpectationSuiteValidationResult:
    """Run the checks on a frame of the kind that the batch's source takes, as a checkpoint of the context."""
    suite = gx.ExpectationSuite(name=table)
    for check in checks:
        suite.add_expectation(check.expectation.copy(update={"meta": {"name": check.name}}))
    definition = context.validation_definitions.add(
        gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
    )
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name=table, validation_definitions=[definition], result_format=RESULT)
    )
    (verdict,) = checkpoint.run(batch_parameters={"dataframe": frame}).run_results.values()
    return verdict

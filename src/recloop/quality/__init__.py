"""Quality: Great Expectations judges a snapshot; bad rows go to quarantine, clean ones go on."""

from recloop.quality.checks import Check
from recloop.quality.report import QualityError, TableVerdict, ValidationReport
from recloop.quality.suites import SUITES
from recloop.quality.validation import validate

__all__ = ["SUITES", "Check", "QualityError", "TableVerdict", "ValidationReport", "validate"]

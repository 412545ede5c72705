"""Stage validate: Great Expectations judges the snapshot; bad rows go to quarantine."""

import json
from pathlib import Path

from recloop.features.item_times import date_items
from recloop.quality import QualityError, validate
from recloop.settings import load_params


def main() -> None:
    """Write ``data/valid``, ``data/quarantine``, ``reports/data_docs`` and ``reports/validation.json``.

    Raises:
        SystemExit: the snapshot is not fit to learn from.
    """
    data, reports = Path("data"), Path("reports")
    reports.mkdir(exist_ok=True)
    tolerated = load_params().quality.tolerated_share
    try:
        report = validate(
            data / "snapshot", data / "valid", data / "quarantine", reports / "data_docs", tolerated
        )
    except QualityError as error:
        (reports / "validation.json").write_text(json.dumps(error.report.to_dict(), indent=1) + "\n")
        raise SystemExit(str(error)) from error
    (reports / "validation.json").write_text(json.dumps(report.to_dict(), indent=1) + "\n")
    print(report)
    if dated := date_items(data / "snapshot", data / "valid"):
        print(f"{dated:,} items have changed since people first met them and are described as they were then")


if __name__ == "__main__":
    main()

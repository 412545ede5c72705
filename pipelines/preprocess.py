"""Stage preprocess: from the clean snapshot to features."""

import json
from pathlib import Path

from recloop.features.build import build_features
from recloop.settings import load_params


def main() -> None:
    """Write ``data/features`` and ``reports/features.json``."""
    params = load_params()
    figures = build_features(Path("data/valid"), Path("data/features"), params.features, params.reward)
    Path("reports").mkdir(exist_ok=True)
    Path("reports/features.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(
        f"{figures['train_requests']} train and {figures['test_requests']} test requests,"
        f" {figures['items']} items"
    )


if __name__ == "__main__":
    main()

"""Stage preprocess: from the clean snapshot to features."""

import json
from pathlib import Path

from recloop.features.build import build_features
from recloop.settings import load_params


def main() -> None:
    """Write ``data/features`` and ``reports/features.json``."""
    params = load_params()
    valid, out = Path("data/valid").absolute(), Path("data/features")
    if workers := params.features.num_workers:
        from recloop.agents.cluster import cluster  # which imports Ray, and takes seconds
        from recloop.agents.shards import STORE_BYTES, in_tasks

        with cluster(workers, STORE_BYTES):
            figures = build_features(valid, out, params.features, params.reward, in_tasks)
    else:
        figures = build_features(valid, out, params.features, params.reward)
    Path("reports").mkdir(exist_ok=True)
    Path("reports/features.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(
        f"{figures['train_requests']} train and {figures['test_requests']} test requests,"
        f" {figures['items']} items"
    )


if __name__ == "__main__":
    main()

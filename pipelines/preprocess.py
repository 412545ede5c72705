"""Stage preprocess: from the clean snapshot to features."""

import json
from pathlib import Path
from typing import Any

from recloop.features.build import NoDataError, build_features
from recloop.features.fit import DeclarationError
from recloop.settings import Params, load_params


def main() -> None:
    """Write ``data/features`` and ``reports/features.json``.

    Raises:
        SystemExit: there is too little to learn from, or nothing for a step that is declared.
    """
    try:
        figures = _build(load_params())
    except (NoDataError, DeclarationError) as error:
        raise SystemExit(str(error)) from error
    Path("reports").mkdir(exist_ok=True)
    Path("reports/features.json").write_text(json.dumps(figures, indent=1) + "\n")
    print(
        f"{figures['train_requests']} train and {figures['test_requests']} test requests,"
        f" {figures['items']} items"
    )


def _build(params: Params) -> dict[str, Any]:
    valid, out = Path("data/valid").absolute(), Path("data/features")
    if not (workers := params.features.num_workers):
        return build_features(valid, out, params.features, params.reward)
    from recloop.agents.cluster import cluster  # which imports Ray, and takes seconds
    from recloop.agents.shards import STORE_BYTES, in_tasks

    with cluster(workers, STORE_BYTES):
        return build_features(valid, out, params.features, params.reward, in_tasks)


if __name__ == "__main__":
    main()

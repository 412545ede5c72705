"""Stage user_model: fit one on the train people, one on the test people."""

import json
from pathlib import Path

from recloop.features import Catalogue, Steps
from recloop.market.fit import fit_user_model
from recloop.settings import load_params


def main() -> None:
    """Write ``models/user_model/{train,test}`` and ``reports/user_model.json``."""
    params = load_params()
    features = Path("data/features")
    catalogue = Catalogue.load(features / "items.npz")
    figures = {}
    for name in ("train", "test"):
        steps = Steps.load(features / f"{name}.npz")
        model, figures[name] = fit_user_model(steps, catalogue, params.user_model, params.seed, name)
        model.save(Path("models/user_model") / name)
    Path("reports").mkdir(exist_ok=True)
    Path("reports/user_model.json").write_text(json.dumps(figures, indent=1) + "\n")
    for name, row in figures.items():
        print(name, {key: round(value, 4) for key, value in row.items()})


if __name__ == "__main__":
    main()

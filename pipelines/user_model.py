"""Stage user_model: fit one on the train people, one on the test people, of whom nobody has withdrawn."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from pipelines.consents import refuse_withdrawn
from recloop.features import Catalogue, Steps
from recloop.market.fit import Predictions, fit_user_model, held_out_predictions
from recloop.market.measures import reliability
from recloop.settings import load_params

REPORTS = Path("reports")
TITLES = {"click": "a click", "extra": "more, after a click", "leave": "leaving"}


def main() -> None:
    """Write ``models/user_model/{train,test}``, ``reports/user_model.json``, ``reports/calibration.png``.

    Raises:
        SystemExit: somebody of this data version has withdrawn, and not only while this run is under way.
    """
    params = load_params()
    refuse_withdrawn(params)
    features = Path("data/features")
    catalogue = Catalogue.load(features / "items.npz")
    figures, predictions = {}, {}
    for name in ("train", "test"):
        steps = Steps.load(features / f"{name}.npz")
        model, figures[name] = fit_user_model(steps, catalogue, params.user_model, params.seed, name)
        model.save(Path("models/user_model") / name)
        predictions[name] = held_out_predictions(model, steps, params.seed)
    REPORTS.mkdir(exist_ok=True)
    (REPORTS / "user_model.json").write_text(json.dumps(figures, indent=1) + "\n")
    plot_calibration(predictions, REPORTS / "calibration.png")
    for name, row in figures.items():
        print(name, {key: round(value, 4) for key, value in row.items()})


def plot_calibration(predictions: dict[str, Predictions], path: Path) -> None:
    """Reliability curves: per kind of behaviour, the share that happened over the chance given to it."""
    figure = Figure(figsize=(10.5, 3.6), layout="constrained")
    for axes, (event, title) in zip(figure.subplots(1, len(TITLES)), TITLES.items(), strict=True):
        top = 0.0
        for name, found in predictions.items():
            chance, seen = found[event]
            if not len(seen):
                continue
            _, predicted, share = reliability(chance, seen).T.numpy()
            axes.plot(predicted, share, marker="o", label=f"{name} people, {len(seen):,} cases")
            top = max(top, float(predicted.max()), float(share.max()))
        axes.plot([0, 1.05 * top], [0, 1.05 * top], color="#999999", linestyle=":")
        axes.set(title=title, xlabel="predicted chance", ylabel="share that happened")
        axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, dpi=120, metadata={"Software": None})


if __name__ == "__main__":
    main()

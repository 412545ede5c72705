"""Stage train: an agent learns in the train people's user model, from nobody who has withdrawn."""

from pathlib import Path

from pipelines.consents import refuse_withdrawn
from recloop.agents import train
from recloop.settings import load_params, places


def main() -> None:
    """Write ``models/policy``, ``reports/learning_curve.csv`` and ``reports/training.json``.

    Raises:
        SystemExit: somebody of this data version has withdrawn, and not only while this run is under way.
    """
    params = load_params()
    refuse_withdrawn(params)
    figures = train(
        params,
        features=Path("data/features"),
        user_model=Path("models/user_model/train"),
        out=Path("models/policy"),
        reports=Path("reports"),
        checkpoints=places().home / "checkpoints",
    )
    print(figures)


if __name__ == "__main__":
    main()

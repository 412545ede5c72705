"""Stage train: an agent learns in the train people's user model."""

from pathlib import Path

from recloop.agents import train
from recloop.settings import load_params, places


def main() -> None:
    """Write ``models/policy``, ``reports/learning_curve.csv`` and ``reports/training.json``."""
    figures = train(
        load_params(),
        features=Path("data/features"),
        user_model=Path("models/user_model/train"),
        out=Path("models/policy"),
        reports=Path("reports"),
        checkpoints=places().home / "checkpoints",
    )
    print(figures)


if __name__ == "__main__":
    main()

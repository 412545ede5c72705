"""Stage evaluate: the policy against the baselines, in the held-out user model and on the held-out log."""

from pathlib import Path

from recloop.evaluation import Judge, evaluate, write_report
from recloop.evaluation.page import warnings
from recloop.market import GroundTruth
from recloop.policy import load
from recloop.settings import Params, load_params
from recloop.store.snapshot import Watermark


def main() -> None:
    """Write ``reports/evaluation.json``, ``.html`` and ``.png``, ``reports/value.csv`` and ``slices.csv``."""
    params = load_params()
    judge = Judge.load(Path("data/features"), Path("models/user_model"), params, params.seed)
    figures = evaluate(judge, load(Path("models/policy")), _truth(params, judge))
    write_report(figures, Path("reports"), Path("reports/learning_curve.csv"))
    for where in ("user_model", "truth"):
        for name, row in figures.get(where, {}).items():
            print(f"{where}: {name} {row['value']:.2f} ({row['low']:.2f} to {row['high']:.2f}) a session")
    for text in warnings(figures):
        print(f"warning: {text}")


def _truth(params: Params, judge: Judge) -> GroundTruth | None:
    """The market that the log came from, where it came from one and its items are still the log's."""
    if Watermark.load(Path("data/watermark.json")).source != "market":
        return None
    try:
        return GroundTruth(params.market, params.reward, params.seed).attach(judge.spec)
    except ValueError as error:
        print(f"the value in the market itself is left out: {error}")
        return None


if __name__ == "__main__":
    main()

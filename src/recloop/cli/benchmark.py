"""Benchmarks on published logs: our figures beside baselines that run in the same command."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from recloop.cli.show import as_table, console, stop
from recloop.intake import DatasetError
from recloop.intake.movielens import read_movielens
from recloop.intake.open_bandit import read_open_bandit
from recloop.settings import places

if TYPE_CHECKING:
    from recloop.evaluation.next_item.sequences import Log

LIKED = 4.0  # stars, as in params.yaml's reward.rating_positive
MILLION = 900_000  # ratings from which the log is taken for MovieLens 1M or more
SEEDS, QUICK_SEEDS = 5, 2
Data = Annotated[Path, typer.Option(help="The dataset as it is published.")]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Where to write the figures.")]
benchmark = typer.Typer(no_args_is_help=True, help=__doc__)


@benchmark.command()
def movielens(
    data: Data,
    quick: Annotated[bool, typer.Option("--quick", help=f"{QUICK_SEEDS} seeds, shorter training.")] = False,
    seeds: Annotated[int | None, typer.Option(min=1, help=f"{SEEDS}, or {QUICK_SEEDS} with --quick.")] = None,
    held_out: Annotated[int, typer.Option(min=1, help="Items of each person in the test.")] = 1,
    json_: JsonFile = None,
) -> None:
    """Next-item prediction, leave-last-out, the whole catalogue ranked. What was stopped goes on."""
    from recloop.evaluation.next_item import bench, figures, sequences  # torch and ray take seconds to import
    from recloop.evaluation.next_item.last_few import LastFew

    folder = places().home / "benchmarks"
    try:
        log = sequences.read_log(read_movielens(data), LIKED)
        if held_out > 1:
            log, folder = LastFew.of(log, held_out), folder / f"last-{held_out}"
    except (DatasetError, sequences.TooLittleError) as error:
        stop(str(error))
    found = bench.Bench(log, bench.QUICK if quick else bench.FULL, folder).run(
        seeds or (QUICK_SEEDS if quick else SEEDS)
    )
    rows, head = figures.figures(log, found), figures.head(log, found)
    protocol = figures.PROTOCOL + (figures.FEW.format(held=held_out) if held_out > 1 else "")
    about = _about(log) | {"quick": quick, "protocol": protocol}
    if json_:
        json_.write_text(json.dumps({"log": about, "models": rows, "head": head}, indent=1) + "\n")
    console.print(
        f"{about['name']}: {about['people']:,} people, {about['items']:,} items, {about['acts']:,} acts"
    )
    columns = ["model", "NDCG@10", "hit rate@10", "reward-weighted NDCG@10", "to SASRec-BCE", "seeds", "s"]
    as_table([_row(row) for row in rows], columns, "test")
    console.print(protocol, highlight=False)
    console.print(f"Published {figures.PUBLISHED}.", highlight=False)
    console.print(_said(rows, head), highlight=False)


def _about(log: "Log") -> dict[str, Any]:
    acts = sum(len(row) for row in log.items)
    name = "MovieLens of a million ratings or more" if acts > MILLION else "MovieLens, smaller than 1M"
    return {"name": name, "people": len(log.items), "items": log.count, "acts": acts}


def _row(row: dict[str, Any]) -> dict[str, str]:
    return {
        "model": row["title"],
        "NDCG@10": _between(row, "ndcg", 4),
        "hit rate@10": _between(row, "hit_rate", 4),
        "reward-weighted NDCG@10": _between(row, "reward_ndcg", 4),
        "to SASRec-BCE": _between(row, "ratio", 2),
        "seeds": str(row["seeds"]),
        "s": f"{row['seconds']:.0f}",
    }


def _said(rows: list[dict[str, Any]], head: dict[str, float]) -> str:
    """Whether the two aims are met, in words."""
    ours = next(row for row in rows if row["model"] == "ours")
    reached = "reached" if ours["ratio"] >= 1.3 else "missed"
    aim = f"Ours to SASRec-BCE {_between(ours, 'ratio', 2)}: the aim of 1.3 is {reached}."
    if not next(row for row in rows if row["model"] == "ours_reinforced")["chosen"]["beta"]:
        return f"{aim} No head surely lifts reward-weighted NDCG on the validation, so ours stays as it is."
    lifted = "surely" if head["reward_ndcg_low"] > 1 else "not surely" if head["reward_ndcg"] > 1 else "not"
    return (
        f"{aim} The reinforced head times reward-weighted NDCG by {_between(head, 'reward_ndcg', 3)},"
        f" {lifted} above 1, and NDCG by {_between(head, 'ndcg', 3)}."
    )


def _between(figures: dict[str, Any], name: str, digits: int) -> str:
    middle, low, high = (f"{figures[name + end]:.{digits}f}" for end in ("", "_low", "_high"))
    return f"{middle} ({low} to {high})"


@benchmark.command("open-bandit")
def open_bandit(data: Data, json_: JsonFile = None) -> None:
    """Off-policy estimates of one policy from the other's log, beside its own log."""
    from recloop.evaluation.bandit import OnePolicyError, compare_policies  # torch takes seconds to import

    try:
        rows = compare_policies(read_open_bandit(data))
    except (DatasetError, OnePolicyError) as error:
        stop(str(error))
    if json_:
        json_.write_text(json.dumps(rows, indent=1) + "\n")
    columns = ["from", "to", "estimator", "estimate", "truth", "relative error", "effective sample", "why"]
    as_table([_bandit_row(row) for row in rows], columns, "clicks per impression")


def _bandit_row(row: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {name: row.get(name) for name in ("from", "to", "estimator", "why")}
    shown["truth"] = f"{row['truth']:.5f} ({row['truth_low']:.5f} to {row['truth_high']:.5f})"
    if "estimate" in row:
        shown["estimate"] = f"{row['estimate']:.5f} ({row['low']:.5f} to {row['high']:.5f})"
        shown["relative error"] = f"{row['error']:.2f}"
    if "error_high" in row:
        shown["relative error"] += f" (at most {row['error_high']:.2f})"
    if "effective_sample" in row:
        shown["effective sample"] = f"{row['effective_sample']:.0f}"
    return shown

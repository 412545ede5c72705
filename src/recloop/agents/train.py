"""Training: from a fitted user model to an exported policy, resumable at any moment."""

import csv
import json
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import torch
from ray.exceptions import RayError
from torch import nn
from tqdm import tqdm

from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build, market_device
from recloop.agents.checkpoint import Progress, fingerprint, resume, save
from recloop.agents.cluster import cluster
from recloop.agents.export import QueryTower, export_onnx, item_matrix
from recloop.agents.inputs import TrainingError, read_inputs, read_log
from recloop.agents.log import LoggedRows
from recloop.agents.network import OBSERVATION, Shape
from recloop.agents.tables import TableError
from recloop.features import Catalogue, FeatureSpec
from recloop.market import Market, UserModel
from recloop.policy import uniform_share, write_artefact
from recloop.schema import Item
from recloop.settings import Params
from recloop.settings.memory import peak_memory

REPORTS = 20  # points of the learning curve, and checkpoints
GREEDY_PEOPLE = 400
SCORES_AT_ONCE = 4_000_000  # while a policy is looked at; 16 MB, which bounds it in a large catalogue
ATTEMPTS = 3  # at going on from a checkpoint after a learner was lost, without any progress between


def train(
    params: Params, features: Path, user_model: Path, out: Path, reports: Path, checkpoints: Path
) -> dict[str, float | int | str]:
    """Train, export to ``out``, write ``learning_curve.csv`` and ``training.json`` to ``reports``.

    What is exported is the best of the learning curve, by greedy return among the train people. A run that
    was killed goes on from its last checkpoint if parameters and data are the same.

    Raises:
        TrainingError: features, user model or log are missing, empty, or do not fit each other; or the
            propensity floor is more than so many items can have.
        NotFiniteError: the market pays rewards that are not numbers, or training diverged.
    """
    torch.set_num_threads(1)  # threads that wait for each other cost such small networks more than they give
    inputs, agent, model = read_inputs(features, user_model), params.agent, user_model.resolve()
    _check_serving(params, inputs.catalogue)
    files, rows = [*inputs.files], None
    if ALGORITHMS[agent.algorithm].from_log:
        files.append(features / "train.npz")
        rows = read_log(features, inputs.spec, agent.gamma)
    store = checkpoints / fingerprint(params, files)
    with cluster(agent.num_env_runners + agent.num_learners):
        device = market_device(agent)
        network, progress = learn(
            params, inputs.shape, lambda: UserModel.load(model, device), inputs.judge, store, rows
        )
    _export(network, params, inputs.spec, inputs.catalogue, features, inputs.judge, out)
    figures = _report(params, progress, reports)
    shutil.rmtree(store, ignore_errors=True)
    return figures


def _check_serving(params: Params, catalogue: Catalogue) -> None:
    """Refuse what could not be exported, before hours of training."""
    serving = params.serving
    try:
        uniform_share(serving.exploration, serving.propensity_floor, int(catalogue.available.sum()))
    except ValueError as error:
        raise TrainingError(str(error)) from error


def learn(
    params: Params,
    shape: Shape,
    market: Callable[[], Market],
    judge: Market,
    store: Path,
    rows: LoggedRows | None = None,
) -> tuple[nn.Module, Progress]:
    """The best network of the learning curve, by greedy return with ``judge``; and how the run went.

    Learns in what ``market`` opens, or from ``rows``; goes on from the last checkpoint in ``store``, also
    where a learner is lost. RLlib replaces lost runners. Ray must be running.

    Raises:
        TrainingError: the algorithm cannot be had at this size, or learners are lost again and again.
    """
    failures, reached = 0, -1
    while True:
        try:
            algorithm = build(params.agent, params.seed, shape, market, rows)
        except TableError as error:
            raise TrainingError(str(error)) from error
        progress = resume(store, algorithm)
        try:
            return _learn(algorithm, params, judge, store, progress, shape.available), progress
        except RayError as error:
            failures = failures + 1 if progress.env_steps <= reached else 1
            reached = max(reached, progress.env_steps)
            if failures == ATTEMPTS:
                raise TrainingError(
                    f"learners were lost {ATTEMPTS} times in a row, at last: {error}"
                ) from error
            print(f"a learner was lost ({type(error).__name__}); training goes on from its last checkpoint")
        finally:
            algorithm.stop()


class _Stop:
    """Turns SIGTERM into a checkpoint and an orderly end."""

    def __init__(self) -> None:
        self.asked = False
        self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, _signal: int, _frame: FrameType | None) -> None:
        self.asked = True

    def restore(self) -> None:
        signal.signal(signal.SIGTERM, self._before)


def _learn(
    algorithm: MarketAlgorithm,
    params: Params,
    judge: Market,
    store: Path,
    progress: Progress,
    available: np.ndarray | None,
) -> nn.Module:
    agent = params.agent
    every = max(1, agent.env_steps // REPORTS)
    stop, start, before = _Stop(), time.monotonic(), progress.seconds
    bar = tqdm(
        total=agent.env_steps,
        initial=progress.env_steps,
        desc=f"train {agent.algorithm}",
        unit=" steps",
        mininterval=1,
        leave=None,
    )
    try:
        due = progress.env_steps + every
        while progress.env_steps < agent.env_steps:
            algorithm.step()
            bar.update(algorithm.env_steps - progress.env_steps)
            progress.env_steps = algorithm.env_steps
            progress.seconds = before + time.monotonic() - start
            if progress.env_steps >= due or progress.env_steps >= agent.env_steps or stop.asked:
                due += every
                progress.curve.append(_point(algorithm, judge, params, available))
                progress.keep_best(algorithm.network(), progress.curve[-1]["mean_return"])
                bar.set_postfix(greedy=f"{progress.curve[-1]['mean_return']:.2f}")
                save(store, algorithm, progress)
            if stop.asked:
                raise SystemExit(
                    f"stopped at {progress.env_steps} env steps; the next run goes on from there"
                )
        network = algorithm.network()
        network.load_state_dict(progress.best)
        return network
    finally:
        bar.close()
        stop.restore()


def _point(
    algorithm: MarketAlgorithm, judge: Market, params: Params, available: np.ndarray | None
) -> dict[str, float]:
    returns, lengths = algorithm.finished()
    slate, network = params.serving.slate, algorithm.network()
    return {
        "env_steps": algorithm.env_steps,
        "mean_return": greedy_return(network, judge, slate, params.seed, available=available),
        "exploring_return": float(returns.mean()) if len(returns) else 0.0,
        "session_length": float(lengths.mean()) if len(lengths) else 0.0,
        "epsilon": algorithm.epsilon,
        "loss": algorithm.mean_loss(),
    }


@torch.no_grad()
def greedy_return(
    network: nn.Module,
    market: Market,
    slate: int,
    seed: int,
    people: int = GREEDY_PEOPLE,
    available: np.ndarray | None = None,
) -> float:
    """Mean return of a session when ``people`` are shown the ``slate`` items of the highest Q.

    ``available`` bool (N,): what may be shown; None: all.
    """
    sold_out = torch.zeros(market.n_items, dtype=torch.bool)
    if available is not None:
        sold_out = ~torch.as_tensor(available)
    market.seed(seed)
    observation, count = market.reset(people), market.n_items
    size, k = max(1, SCORES_AT_ONCE // count), min(slate, count)
    alive, total = torch.ones(people, dtype=torch.bool), torch.zeros(people)
    while alive.any():
        slates = torch.full((people, k), count)
        for rows in alive.nonzero()[:, 0].split(size):
            scores = network(*(observation[name][rows] for name in OBSERVATION))
            best = scores.masked_fill(sold_out, -torch.inf).topk(k, 1)
            slates[rows] = best.indices.where(best.values > -torch.inf, count)
        outcome = market.step(slates)
        total += outcome.reward * alive
        alive &= ~outcome.done
        observation = market.observe()
    return float(total.mean())


def _export(
    network: nn.Module,
    params: Params,
    spec: FeatureSpec,
    catalogue: Catalogue,
    features: Path,
    judge: UserModel,
    out: Path,
) -> None:
    items = [Item(**row) for row in json.loads((features / "items.json").read_text())]
    with tempfile.TemporaryDirectory() as work:
        scorer, serving = Path(work) / "scorer.onnx", params.serving
        network = network.cpu()
        vectors = item_matrix(network) if len(items) > serving.exact_items else None
        if vectors is None:
            export_onnx(network, judge.reset(2), scorer)
        else:
            export_onnx(QueryTower(network), judge.reset(2), scorer, "query")
        write_artefact(
            out,
            scorer,
            spec,
            items,
            catalogue.popularity,
            algorithm=params.agent.algorithm,
            slate=min(serving.slate, len(items)),
            temperature=serving.temperature,
            exploration=serving.exploration,
            propensity_floor=serving.propensity_floor,
            vectors=vectors,
            candidates=None if vectors is None else serving.candidates,
        )


def _report(params: Params, progress: Progress, reports: Path) -> dict[str, float | int | str]:
    reports.mkdir(parents=True, exist_ok=True)
    with (reports / "learning_curve.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(progress.curve[0]))
        writer.writeheader()
        writer.writerows(progress.curve)
    figures: dict[str, float | int | str] = {
        "algorithm": params.agent.algorithm,
        "env_steps": progress.env_steps,
        "seconds": round(progress.seconds, 2),
        "steps_per_second": round(progress.env_steps / max(progress.seconds, 1e-9), 1),
        "final_return": progress.curve[-1]["mean_return"],
        "best_return": progress.best_return,
        "peak_memory_mb": peak_memory() // 2**20,
    }
    (reports / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures

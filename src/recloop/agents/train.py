"""Training: from a fitted user model to an exported policy, resumable at any moment."""

import csv
import json
import resource
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import FrameType

import torch
from ray.exceptions import RayError
from torch import nn
from tqdm import tqdm

from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.checkpoint import Progress, fingerprint, resume, save
from recloop.agents.cluster import cluster
from recloop.agents.export import export_onnx
from recloop.agents.log import LoggedRows, UnusableLogError
from recloop.agents.network import Shape
from recloop.agents.tables import TableError
from recloop.features import Catalogue, FeatureSpec, Steps
from recloop.market import UserModel
from recloop.policy import write_artefact
from recloop.schema import Item
from recloop.settings import Params

REPORTS = 20  # points of the learning curve, and checkpoints
GREEDY_PEOPLE = 400
ATTEMPTS = 3  # at going on from a checkpoint after a learner was lost, without any progress between


class TrainingError(ValueError):
    """The agent cannot be trained on this data; the message says why."""


def train(
    params: Params, features: Path, user_model: Path, out: Path, reports: Path, checkpoints: Path
) -> dict[str, float | int | str]:
    """Train, export to ``out``, write ``learning_curve.csv`` and ``training.json`` to ``reports``.

    What is exported is the best of the learning curve, by greedy return among the train people. A run that
    was killed goes on from its last checkpoint if parameters and data are the same.

    Raises:
        TrainingError: an empty catalogue, or a user model of another one.
        NotFiniteError: the market pays rewards that are not numbers, or training diverged.
    """
    torch.set_num_threads(1)  # threads that wait for each other cost such small networks more than they give
    spec = FeatureSpec.load(features / "spec.json")
    catalogue = Catalogue.load(features / "items.npz")
    if not len(catalogue.features):
        raise TrainingError("the catalogue is empty: add items to the store, then advance the watermark")
    judge = UserModel.load(user_model)
    if judge.n_items != len(catalogue.features):
        raise TrainingError(
            f"the user model knows {judge.n_items} items, the catalogue has {len(catalogue.features)}:"
            " fit it again with `dvc repro user_model`"
        )
    inputs = [features / "spec.json", features / "items.npz", *sorted(user_model.iterdir())]
    if ALGORITHMS[params.agent.algorithm].from_log:
        inputs.append(features / "train.npz")
    store = checkpoints / fingerprint(params, inputs)
    shape = shape_of(features)
    with cluster(params.agent.num_env_runners + params.agent.num_learners):
        network, progress = _persist(params, shape, features, user_model, judge, store)
    _export(network, params, spec, catalogue, features, judge, out)
    figures = _report(params, progress, reports)
    shutil.rmtree(store, ignore_errors=True)
    return figures


def shape_of(features: Path) -> Shape:
    """What a network for these features is built for."""
    spec = FeatureSpec.load(features / "spec.json")
    catalogue = Catalogue.load(features / "items.npz")
    return Shape(catalogue.features, spec.profile_size, spec.context_size, spec.history, catalogue.available)


def _persist(
    params: Params, shape: Shape, features: Path, user_model: Path, judge: UserModel, store: Path
) -> tuple[nn.Module, Progress]:
    """Learn, and go on from the last checkpoint where a learner is lost. RLlib replaces lost runners."""
    failures, reached = 0, -1
    while True:
        algorithm = _build(params, shape, features, user_model)
        progress = resume(store, algorithm)
        try:
            return _learn(algorithm, params, judge, store, progress), progress
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


def _build(params: Params, shape: Shape, features: Path, user_model: Path) -> MarketAlgorithm:
    path, agent = user_model.resolve(), params.agent
    try:
        rows = None
        if ALGORITHMS[agent.algorithm].from_log:
            rows = LoggedRows.of(Steps.load(features / "train.npz"), len(shape.features), agent.gamma)
        return build(agent, params.seed, shape, lambda: UserModel.load(path), rows)
    except (UnusableLogError, TableError) as error:
        raise TrainingError(str(error)) from error


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
    algorithm: MarketAlgorithm, params: Params, judge: UserModel, store: Path, progress: Progress
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
                progress.curve.append(_point(algorithm, judge, params))
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


def _point(algorithm: MarketAlgorithm, judge: UserModel, params: Params) -> dict[str, float]:
    returns, lengths = algorithm.finished()
    return {
        "env_steps": algorithm.env_steps,
        "mean_return": greedy_return(algorithm.network(), judge, params.serving.slate, params.seed),
        "exploring_return": float(returns.mean()) if len(returns) else 0.0,
        "session_length": float(lengths.mean()) if len(lengths) else 0.0,
        "epsilon": algorithm.epsilon,
        "loss": algorithm.mean_loss(),
    }


@torch.no_grad()
def greedy_return(network: nn.Module, market: UserModel, slate: int, seed: int) -> float:
    """Mean return of a session when people are shown the ``slate`` items of the highest Q."""
    market.seed(seed)
    observation = market.reset(GREEDY_PEOPLE)
    alive, total = torch.ones(GREEDY_PEOPLE, dtype=torch.bool), torch.zeros(GREEDY_PEOPLE)
    while alive.any():
        q = network(observation["profile"], observation["context"], observation["history"])
        outcome = market.step(q.topk(min(slate, q.shape[1]), 1).indices)
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
        scorer = Path(work) / "scorer.onnx"
        export_onnx(network.cpu(), judge.reset(2), scorer)
        serving = params.serving
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
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (reports / "training.json").write_text(json.dumps(figures, indent=1) + "\n")
    return figures

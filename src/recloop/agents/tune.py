"""Search of hyper-parameters and of the network's architecture: Ray Tune with Optuna and ASHA.

Trials learn in the train people's user model and are scored in it, by the mean return of a session under
the policy's best slates, so that nothing the gates look at is tuned on. Optuna's TPE proposes (Bergstra et
al. 2011), ASHA ends the worse half early (Li et al. 2020, arXiv 1810.05934). A search that was stopped
goes on where it was.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import torch
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch
from tqdm import tqdm

from recloop.agents.algorithm import LogAlgorithm, ReplayAlgorithm
from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.algorithms.bandits import LinUCB
from recloop.agents.build import build, market_device
from recloop.agents.checkpoint import fingerprint
from recloop.agents.cluster import cluster
from recloop.agents.inputs import read_inputs, read_log
from recloop.agents.train import greedy_return
from recloop.market import UserModel
from recloop.settings import Params
from recloop.settings.params import AlgorithmName

LOOKS = 8  # at each trial, between which ASHA decides
SCORE = "mean_return"


@dataclass(frozen=True)
class Trial:
    """One trial: what of ``agent`` was changed, how far it came, and its returns by env steps."""

    changes: dict[str, Any]
    env_steps: int
    score: float
    curve: list[tuple[int, float]]


@dataclass(frozen=True)
class Space:
    """What is searched for an algorithm, by dotted names within ``agent``; widened to hold ``shipped``."""

    algorithm: AlgorithmName
    shipped: dict[str, Any]

    def __call__(self, trial: optuna.Trial) -> None:
        """Suggest one value for each name."""
        kind = ALGORITHMS[self.algorithm]
        self._number(trial, "gamma", 0.5, 0.99)
        if issubclass(kind, LinUCB):
            self._number(trial, "bandit.width", 0.05, 2.0, log=True)
            return
        self._number(trial, "learning_rate", 3e-4, 1e-2, log=True)
        self._one_of(trial, "network.history", ["pool", "gru", "attention"])
        self._one_of(trial, "network.dim", [16, 32, 64])
        self._one_of(trial, "network.hidden", [32, 64, 128])
        if issubclass(kind, ReplayAlgorithm):
            self._one_of(trial, "value.n_step", [1, 2, 3, 5])
            self._one_of(trial, "value.priority_exponent", [0.0, 0.6])
            self._one_of(trial, "value.updates_per_step", [1, 2, 4])
            self._number(trial, "value.epsilon_decay_share", 0.2, 0.9)
        elif issubclass(kind, LogAlgorithm):
            self._number(trial, "logs.advantage_weight", 0.3, 5.0, log=True)
            self._number(trial, "logs.weight_cap", 2.0, 50.0, log=True)
            self._number(trial, "logs.conservatism", 0.01, 1.0, log=True)
            self._number(trial, "logs.expectile", 0.5, 0.95)
        else:
            self._number(trial, "gradient.entropy", 1e-4, 3e-2, log=True)
            self._number(trial, "gradient.gae_lambda", 0.8, 1.0)
            self._one_of(trial, "gradient.epochs", [1, 2, 4, 8])
            self._one_of(trial, "gradient.minibatch", [256, 512, 1024])

    def _number(self, trial: optuna.Trial, name: str, low: float, high: float, log: bool = False) -> None:
        own = self.shipped[name]
        trial.suggest_float(name, min(low, own) if own or not log else low, max(high, own), log=log)

    def _one_of(self, trial: optuna.Trial, name: str, options: list[Any]) -> None:
        own = self.shipped[name]
        trial.suggest_categorical(name, options if own in options else [*options, own])


def search(
    params: Params, features: Path, user_model: Path, store: Path, trials: int, at_once: int = 1
) -> list[Trial]:
    """Run the trials that are still to be run; returns all of them, best first.

    ``store`` keeps the search: one for each combination of parameters, data and code. The first trial
    is the parameters as they are.
    """
    data, model = features.resolve(), user_model.resolve()
    name = fingerprint(params, [data / "items.npz", *sorted(model.iterdir())])
    place = (store / name).resolve()

    def attempt(changes: dict[str, Any]) -> None:
        for point in _learn(changed(params, changes), data, model):
            tune.report(point)

    with cluster(at_once):
        if tune.Tuner.can_restore(str(place)):
            tuner = tune.Tuner.restore(str(place), trainable=attempt, resume_unfinished=True)
        else:
            tuner = _tuner(attempt, params, place, trials, at_once)
        results = tuner.fit()
    found = [_trial(result) for result in results if result.metrics and SCORE in result.metrics]
    return sorted(found, key=lambda one: (-one.score, json.dumps(one.changes, sort_keys=True)))


def _tuner(attempt: Any, params: Params, place: Path, trials: int, at_once: int) -> tune.Tuner:
    sampler = optuna.samplers.TPESampler(seed=params.seed, n_startup_trials=max(4, trials // 4))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    start = shipped(params)
    looker = OptunaSearch(
        Space(params.agent.algorithm, start), metric=SCORE, mode="max", sampler=sampler,
        points_to_evaluate=[start],
    )  # fmt: skip
    return tune.Tuner(
        attempt,
        tune_config=tune.TuneConfig(
            metric=SCORE, mode="max", num_samples=trials, search_alg=ConcurrencyLimiter(looker, at_once),
            scheduler=ASHAScheduler(time_attr="look", max_t=LOOKS, grace_period=2, reduction_factor=2),
        ),
        run_config=tune.RunConfig(
            name=place.name, storage_path=str(place.parent), callbacks=[_Bar(trials)], verbose=0,
        ),
    )  # fmt: skip


def shipped(params: Params) -> dict[str, Any]:
    """The parameters as they are, for the names that are searched."""
    values = _flat(params.agent.model_dump())
    asked = optuna.trial.FixedTrial(values)
    Space(params.agent.algorithm, values)(asked)  # type: ignore[arg-type]
    return dict(asked.params)


def _flat(values: dict[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, dict) else {f"{before}{name}": value}
    return found


def changed(params: Params, changes: dict[str, Any]) -> Params:
    """The parameters with these dotted names of ``agent`` changed; checked as params.yaml is."""
    values = params.model_dump()
    for name, value in changes.items():
        *path, last = name.split(".")
        section = values["agent"]
        for part in path:
            section = section[part]
        section[last] = value
    return Params.model_validate(values)


def _learn(params: Params, features: Path, user_model: Path) -> Iterator[dict[str, Any]]:
    """Train as the stage does, looking ``LOOKS`` times."""
    torch.set_num_threads(1)
    agent, inputs = params.agent, read_inputs(features, user_model)
    from_log = ALGORITHMS[agent.algorithm].from_log
    rows = read_log(features, inputs.spec, agent.gamma) if from_log else None
    device = market_device(agent)
    algorithm = build(agent, params.seed, inputs.shape, lambda: UserModel.load(user_model, device), rows)
    try:
        for look in range(1, LOOKS + 1):
            while algorithm.env_steps < agent.env_steps * look // LOOKS:
                algorithm.step()
            network, available = algorithm.network(), inputs.shape.available
            slate = params.serving.slate
            score = greedy_return(network, inputs.judge, slate, params.seed, available=available)
            yield {SCORE: score, "env_steps": algorithm.env_steps, "look": look}
    finally:
        algorithm.stop()


class _Bar(tune.Callback):
    """How many trials are over, and the best so far."""

    def __init__(self, trials: int) -> None:
        self.trials, self.best = trials, float("-inf")
        self.bar: tqdm | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"trials": self.trials, "best": self.best, "bar": None}

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **_: Any) -> None:
        """Move the bar."""
        if self.bar is None:
            self.bar = tqdm(total=self.trials, desc="trials", mininterval=1)
        self.best = max(self.best, trial.last_result.get(SCORE, float("-inf")))
        self.bar.set_postfix(best=f"{self.best:.2f}", refresh=False)
        self.bar.update()


def _trial(result: Any) -> Trial:
    frame = result.metrics_dataframe
    curve = [
        (int(steps), float(score)) for steps, score in zip(frame["env_steps"], frame[SCORE], strict=True)
    ]
    return Trial(dict(result.config), curve[-1][0], max(score for _, score in curve), curve)


def as_json(trials: list[Trial]) -> str:
    """The trials as JSON, best first."""
    return json.dumps([vars(one) for one in trials], indent=1) + "\n"

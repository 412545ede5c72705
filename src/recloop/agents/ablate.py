"""Which features a policy needs: train without each group of columns, and compare with all of them.

A group is hidden by holding its columns at 0 wherever a policy looks, in the market, in the log and in the
items' features; the network keeps its size. People themselves react to what they are: the user model is not
touched. Each run is scored in the train people's user model, on which no gate looks.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.checkpoint import fingerprint
from recloop.agents.cluster import cluster
from recloop.agents.inputs import Inputs, TrainingError, read_inputs, read_log
from recloop.agents.network import Columns, Shape
from recloop.agents.train import greedy_return, learn
from recloop.features import Catalogue, FeatureSpec
from recloop.market import Market, Outcome, UserModel
from recloop.settings import Params

EVERYTHING = "everything"
PEOPLE = 2000  # whose sessions a run is scored by
OTHER_LUCK = 1_000_003  # added to the seed for that, since the learning curve's best point was chosen by it


@dataclass(frozen=True)
class Group:
    """Columns of ``profile``, ``context`` or ``item`` that tell of one thing; or all of the ``history``."""

    part: Literal["profile", "context", "item", "history"]
    columns: tuple[int, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training: what was hidden (``EVERYTHING``: nothing), and the mean return of a session."""

    group: str
    seed: int
    mean_return: float
    env_steps: int


def groups_of(spec: FeatureSpec, catalogue: Catalogue) -> dict[str, Group]:
    """All groups, by names such as ``profile.region``, ``context.moment``, ``history``, ``item.price``."""
    found = {f"profile.{name}": _between("profile", at) for name, at in spec.profile_groups.items()}
    found |= {f"context.{name}": _between("context", at) for name, at in spec.context_groups.items()}
    found["history"] = Group("history")
    for name in dict.fromkeys(catalogue.groups.tolist()):
        columns = np.flatnonzero(catalogue.groups == name)
        found[f"item.{name}"] = Group("item", tuple(columns.tolist()))
    return found


def _between(part: Literal["profile", "context"], at: slice) -> Group:
    return Group(part, tuple(range(at.start, at.stop)))


class Blanked:
    """A market whose people are seen without a group of features; a ``Market``."""

    def __init__(self, market: Market, group: Group) -> None:
        self.market, self.group = market, group
        self.n_items = market.n_items

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self.market.seed(seed)

    def reset(self, count: int) -> Columns:
        """``count`` people arrive."""
        return blanked(self.market.reset(count), self.group, self.n_items)

    def observe(self) -> Columns:
        """What is seen of them."""
        return blanked(self.market.observe(), self.group, self.n_items)

    def step(self, slates: Tensor) -> Outcome:
        """Show slates to people as they are."""
        return self.market.step(slates)

    def arrive(self, gone: Tensor) -> None:
        """Replace people."""
        self.market.arrive(gone)


def blanked(observation: Columns, group: Group, items: int) -> Columns:
    """The observation with the group's columns at 0, or with no history (``items`` everywhere)."""
    if group.part == "item":
        return observation
    seen = observation[group.part].clone()
    if group.part == "history":
        seen.fill_(items)
    else:
        seen[:, list(group.columns)] = 0
    return observation | {group.part: seen}


def ablate(
    params: Params, features: Path, user_model: Path, store: Path, seeds: int, only: Sequence[str] = ()
) -> list[Run]:
    """Train with everything and without each group, once per seed; returns all runs.

    ``store`` keeps finished runs and the checkpoint of the one under way, each for one combination of
    parameters, data and code: what was stopped goes on. ``only``: these groups instead of all.

    Raises:
        TrainingError: a group that is not known, or data that cannot be trained on.
    """
    torch.set_num_threads(1)
    inputs = read_inputs(features, user_model)
    groups = groups_of(inputs.spec, inputs.catalogue)
    unknown = [name for name in only if name not in groups]
    if unknown:
        raise TrainingError(f"no group of features is named {unknown[0]}; there are {', '.join(groups)}")
    asked: dict[str, Group | None] = {EVERYTHING: None} | {name: groups[name] for name in only or groups}
    files = [*inputs.files, *([features / "train.npz"] if _from_log(params) else [])]
    store.mkdir(parents=True, exist_ok=True)
    work = list(_plan(params, asked, files, seeds))
    found = {
        key: Run(**json.loads(file.read_text())) for _, _, key in work if (file := _kept(store, key)).exists()
    }
    todo = [one for one in work if one[2] not in found]
    bar = tqdm(total=len(work), initial=len(found), desc="ablation", unit="run", mininterval=1)
    with cluster(params.agent.num_env_runners + params.agent.num_learners) if todo else nullcontext():
        for chosen, name, key in todo:
            bar.set_postfix_str(f"without {name}" if asked[name] else name)
            found[key] = _once(chosen, inputs, features, user_model, name, asked[name], store / key)
            _keep(_kept(store, key), found[key])
            bar.update()
    bar.close()
    return [found[key] for _, _, key in work]


def _kept(store: Path, key: str) -> Path:
    return store / f"{key}.json"


def _keep(file: Path, run: Run) -> None:
    part = file.with_suffix(".part")
    part.write_text(json.dumps(asdict(run)))
    part.rename(file)
    shutil.rmtree(file.with_suffix(""), ignore_errors=True)


def _from_log(params: Params) -> bool:
    return ALGORITHMS[params.agent.algorithm].from_log


def _plan(
    params: Params, asked: dict[str, Group | None], files: list[Path], seeds: int
) -> Iterator[tuple[Params, str, str]]:
    """Seed by seed, so that what is there after an interruption can be compared."""
    for seed in range(params.seed, params.seed + seeds):
        chosen = params.model_copy(update={"seed": seed})
        key = fingerprint(chosen, files)
        for name in asked:
            yield chosen, name, f"{key}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _once(
    params: Params,
    inputs: Inputs,
    features: Path,
    user_model: Path,
    name: str,
    group: Group | None,
    place: Path,
) -> Run:
    rows = read_log(features, inputs.spec, params.agent.gamma) if _from_log(params) else None
    shape, judge, model = inputs.shape, inputs.judge, user_model.resolve()
    market: Market = judge
    if group is not None:
        shape, market = _without(shape, group), Blanked(judge, group)
        if rows is not None:
            rows = replace(rows, observations=blanked(rows.observations, group, judge.n_items))

    def opened() -> Market:
        own = UserModel.load(model)
        return own if group is None else Blanked(own, group)

    network, progress = learn(params, shape, opened, market, place, rows)
    slate, luck = params.serving.slate, params.seed + OTHER_LUCK
    mean = greedy_return(network, market, slate, luck, PEOPLE, shape.available)
    return Run(name, params.seed, mean, progress.env_steps)


def _without(shape: Shape, group: Group) -> Shape:
    if group.part != "item":
        return shape
    features = shape.features.copy()
    features[:, list(group.columns)] = 0
    return replace(shape, features=features)

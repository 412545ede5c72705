"""Checkpoints of a training run: arrays and JSON, no pickle, and never half a one.

RLlib's own ``save_to_path`` keeps the state of learner and module too, but in pickles, which run code
when they are read, and it does not know the replay memory.
"""

import hashlib
import json
import math
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recloop.agents.algorithm import MarketAlgorithm
from recloop.settings import Params


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        env_steps: requests answered.
        seconds: spent on them, over all attempts.
        curve: rows of the learning curve.
        best_return: the greatest greedy return of the curve.
        best: the weights that had it.
    """

    env_steps: int
    seconds: float
    curve: list[dict[str, float]]
    best_return: float = -math.inf
    best: dict[str, Tensor] = field(default_factory=dict)

    def keep_best(self, network: nn.Module, mean_return: float) -> None:
        """Copy the network's weights if nothing was better."""
        if mean_return > self.best_return:
            self.best_return = mean_return
            self.best = {name: x.detach().clone() for name, x in network.state_dict().items()}


def fingerprint(params: Params, inputs: list[Path]) -> str:
    """What a checkpoint is good for: the same parameters, the same input files and this room's code."""
    digest = hashlib.sha256(params.agent.model_dump_json().encode() + str(params.seed).encode())
    for file in [*sorted(Path(__file__).parent.rglob("*.py")), *inputs]:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def save(store: Path, algorithm: MarketAlgorithm, progress: Progress) -> None:
    """Write the newest checkpoint of ``store``; older ones go once it is complete."""
    store.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".part-", dir=store))
    arrays: list[np.ndarray] = []
    content = {"progress": _part(vars(progress), arrays), "state": _part(algorithm.learning_state(), arrays)}
    np.savez(work / "arrays.npz", *arrays)
    (work / "state.json").write_text(json.dumps(content))
    done = store / f"{progress.env_steps:012d}"
    work.rename(done)
    for old in store.iterdir():
        if old != done:
            shutil.rmtree(old, ignore_errors=True)


def resume(store: Path, algorithm: MarketAlgorithm) -> Progress:
    """Set the algorithm to the newest checkpoint of ``store``; a new run where there is none.

    One that cannot be read is passed over, with a line that says so.
    """
    for folder in sorted(store.glob("[0-9]*"), reverse=True):
        try:
            content = json.loads((folder / "state.json").read_text())
            with np.load(folder / "arrays.npz", allow_pickle=False) as file:
                arrays = [file[f"arr_{i}"] for i in range(len(file.files))]
            state, fields = (_whole(content[part], arrays) for part in ("state", "progress"))
            fields["best"] = {name: torch.as_tensor(x) for name, x in fields["best"].items()}
            progress = Progress(**fields)
        except Exception as error:  # a damaged file fails in many ways: zip, JSON, a missing name
            print(f"the checkpoint {folder} cannot be read and is passed over: {error}")
            continue
        algorithm.set_learning_state(state)
        print(f"going on at {progress.env_steps} env steps from {folder}")
        return progress
    return Progress(0, 0.0, [])


def _part(value: Any, arrays: list[np.ndarray]) -> Any:
    """``value`` as JSON, with its arrays moved to ``arrays``; keys keep their type."""
    if isinstance(value, torch.Tensor):
        value = value.cpu().numpy()
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {"pairs": [[key, _part(each, arrays)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        return [_part(each, arrays) for each in value]
    return value


def _whole(value: Any, arrays: list[np.ndarray]) -> Any:
    """What ``_part`` took apart."""
    if isinstance(value, list):
        return [_whole(each, arrays) for each in value]
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {key: _whole(each, arrays) for key, each in value["pairs"]}
    return value

"""Where the time of our own training goes."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib
import torch
from ray.rllib.core import DEFAULT_MODULE_ID

from benchmarks.race import SEED
from benchmarks.trainees.ours import advance
from benchmarks.trainees.world import market, shape
from recloop.agents.build import build
from recloop.settings.params import AgentParams

PARTS = (
    "market step", "acting network", "columns", "replay", "forward", "backward", "optimiser",
    "weights hand-over", "RLlib and the rest",
)  # fmt: skip


class Stopwatch:
    """Seconds by part; time in a part that is called from another counts for the inner one alone."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack = [PARTS[-1]]
        self._since = time.perf_counter()

    def switch(self, part: str | None) -> None:
        """Enter ``part``, or leave the present one."""
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now
        if part is None:
            self._stack.pop()
        else:
            self._stack.append(part)

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` that counts for ``part``."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(None)

        return run

    def watch(self, part: str, owner: Any, *names: str) -> None:
        """Count these methods of an object."""
        for name in names:
            setattr(owner, name, self.timed(part, getattr(owner, name)))

    def each(self, part: str, function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
        """As ``timed``, of a generator."""

        def run(*args: Any) -> Iterator[Any]:
            step = self.timed(part, iter(function(*args)).__next__)
            while True:
                try:
                    found = step()
                except StopIteration:
                    return
                yield found

        return run


def breakdown(chosen: AgentParams, steps: int) -> dict[str, float]:
    """Microseconds per env step by part."""
    algorithm: Any = build(chosen, SEED, shape(), market)
    advance(algorithm, steps)
    watch, runner = Stopwatch(), algorithm.env_runner
    learner = algorithm.learner_group.foreach_learner(lambda one: one).result_or_errors[0].get()
    watch.watch("columns", algorithm, "collect")
    watch.watch("columns", runner, "sample")
    watch.watch("columns", runner.acting, "to_columns")
    watch.watch("market step", runner.market, "step", "observe", "arrive")
    watch.watch("acting network", runner.acting, "explore", "shown")
    watch.watch("forward", learner.module[DEFAULT_MODULE_ID], "_forward_train")
    watch.watch("forward", learner, "loss")
    watch.watch("optimiser", learner, "after_step")
    watch.watch("optimiser", learner._optimiser, "step", "zero_grad")
    watch.watch("weights hand-over", algorithm, "hand_on")
    algorithm.minibatches = watch.each("columns", algorithm.minibatches)
    if hasattr(algorithm, "replay"):
        watch.watch("replay", algorithm.replay, "add", "draw", "note")
    clip = watch.timed("optimiser", torch.nn.utils.clip_grad_norm_)
    backward = watch.timed("backward", torch.Tensor.backward)
    before = algorithm.env_steps
    with (
        patch("torch.nn.utils.clip_grad_norm_", clip),
        patch("torch.Tensor.backward", lambda loss: backward(loss)),
    ):
        watch.seconds.clear()
        watch.switch(PARTS[-1])
        advance(algorithm, steps)
        watch.switch(None)
    steps = algorithm.env_steps - before
    algorithm.stop()
    return {part: 1e6 * watch.seconds[part] / steps for part in PARTS}


def show(found: dict[str, dict[str, float]]) -> None:
    """Print microseconds per env step, a column per case."""
    print("\n" + f"{'µs per env step':<22}" + "".join(f"{case:>17}" for case in found))
    for part in PARTS:
        print(f"{part:<22}" + "".join(f"{one[part]:>17.1f}" for one in found.values()))
    print(f"{'together':<22}" + "".join(f"{sum(one.values()):>17.1f}" for one in found.values()))


def plot(found: dict[str, dict[str, float]], path: Path) -> None:
    """A stacked bar per case."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 0.6 * len(found)))
    left = dict.fromkeys(found, 0.0)
    for part in PARTS:
        width = [one[part] for one in found.values()]
        axes.barh(list(found), width, left=list(left.values()), label=part)
        left = {case: left[case] + w for case, w in zip(found, width, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("µs per env step")
    axes.legend(fontsize=7, ncol=3, loc="upper center", bbox_to_anchor=(0.5, -0.35))
    figure.savefig(path, dpi=120, bbox_inches="tight")

"""How acting's cost grows with items, users and the slate: env steps a second and peak tensor memory.

One factor changes at a time around 1,024 users, 5,000 items and slates of 5. Ours is what an env runner of
PPO does with a request of everyone: score, draw slates, step a user model, make rows with advantages. The
peer is the same in a plain torch loop without RLlib, and without rows. Above 10,000 items both score 1,024
drawn candidates. Memory counts tensors alone, all that are alive at once beyond what is there before.
Writes ``reports/scale/scale.png``:

    python -m benchmarks.scale [--quick] [--json FILE]
"""

import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.race import Row, main, race
from recloop.agents.algorithm import MarketAlgorithm
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.network import Shape
from recloop.agents.plackett_luce import sample
from recloop.market import UserModel
from recloop.market.response import Response
from recloop.market.threads import single_thread
from recloop.market.user_model import Start
from recloop.settings import load_params

PROFILE, CONTEXT, FEATURES, HISTORY, STEPS = 24, 8, 16, 10, 8
USERS, ITEMS, SLATES = (256, 1024, 4096, 16_384), (100, 5000, 100_000), (1, 5, 10)
BASE = (1024, 5000, 5)
OUT = Path("reports/scale/scale.png")


class Live(TorchDispatchMode):
    """Counts the bytes of tensors that were made within it: ``now``, and ``peak`` at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = function(*args, **(kwargs or {}))
        given = {
            x.untyped_storage()._cdata for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)
        }
        for x in tree_leaves(found):
            if isinstance(x, torch.Tensor):
                self._note(x.untyped_storage(), given)
        return found

    def _note(self, storage: Any, given: set[int]) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known or key in given:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak(work: Callable[[], object]) -> int:
    """Bytes of tensors that ``work`` keeps alive at once."""
    with Live() as live:
        work()
    return live.peak


def market(items: int) -> UserModel:
    """A user model of random people and items."""
    torch.manual_seed(0)
    response = Response(torch.randn(items, FEATURES), PROFILE, CONTEXT, 10, 16)
    start = Start(torch.randn(256, PROFILE), torch.randn(256, CONTEXT), torch.full((256, HISTORY), items))
    return UserModel(response, start, (1.0, 0.0, 0.0), 20)


def shape_of(model: UserModel) -> Shape:
    """What a network for it is built for."""
    return Shape(model.response.features.numpy(), PROFILE, CONTEXT, HISTORY)


def opened(users: int, items: int, slate: int) -> MarketAlgorithm:
    """PPO as it is shipped, with these sizes."""
    agent = load_params().agent.model_copy(
        update={"algorithm": "ppo", "users_at_once": users, "slate": slate, "num_gpus_per_learner": 0.0}
    )
    model = market(items)
    return build(agent, 0, shape_of(model), lambda: model)


@torch.no_grad()
def plain(algorithm: MarketAlgorithm, people: UserModel, luck: torch.Generator) -> float:
    """The same requests in a loop of torch alone."""
    net, offered = algorithm.env_runner.acting.net, algorithm.candidates()
    observation, total = people.observe(), 0.0
    for _ in range(STEPS):
        state = net.state(observation)
        logits = net.scores(state, offered)
        slate, _ = sample(logits, algorithm.agent.slate, luck)
        net.value(state)
        outcome = people.step(slate if offered is None else offered[slate])
        total += float(outcome.reward.sum())
        people.arrive(outcome.done)
        observation = people.observe()
    return total


def one(users: int, items: int, slate: int, repeats: int) -> tuple[Row, int, int]:
    """Steps a second, and the peaks of ours and of the peer."""
    algorithm = opened(users, items, slate)
    people, luck = market(items), torch.Generator().manual_seed(0)
    people.reset(users)

    def ours() -> object:
        return algorithm.collect(STEPS, algorithm.candidates())

    def theirs() -> object:
        return plain(algorithm, people, luck)

    case = f"{users:,} users, {items:,} items, slates of {slate}"
    row = race(case, ours, "plain torch loop", theirs, users * STEPS, "env steps/s", repeats)
    mine, other = peak(ours), peak(theirs)
    algorithm.stop()
    return row, mine, other


def cases(repeats: int) -> Iterator[Row]:
    """Steps a second and memory of every size, then how they grow; draws the plot."""
    users, items, slate = BASE
    sizes = [(u, items, slate) for u in USERS] + [(users, n, slate) for n in ITEMS if n != items]
    sizes += [(users, items, k) for k in SLATES if k != slate]
    found: dict[tuple[int, int, int], tuple[Row, int]] = {}
    with single_thread(), cluster():
        for size in sizes:
            row, mine, other = one(*size, repeats)
            found[size] = row, mine
            yield row
            ratio = other / mine
            yield Row(
                f"{row.case}: memory", "MB at peak", mine / 1e6, row.peer, other / 1e6, ratio, ratio, ratio,
                "lower", None,
            )  # fmt: skip
    for place, (what, values) in enumerate((("user", USERS), ("item", ITEMS), ("place", SLATES))):
        yield from _growth(found, place, what, values)
    _plot(found)


def _at(place: int, value: int) -> tuple[int, int, int]:
    size = [*BASE]
    size[place] = value
    return (size[0], size[1], size[2])


def _growth(found: dict, place: int, what: str, values: tuple[int, ...]) -> Iterator[Row]:
    """The dearest size next to the cheapest: time and memory of a request of everyone."""
    small, large = found[_at(place, values[0])], found[_at(place, values[-1])]
    case = f"from {values[0]:,} to {values[-1]:,} {what}s ({values[-1] / values[0]:,.0f} times)"
    seconds = [_at(place, v)[0] / found[_at(place, v)][0].ours * 1e3 for v in (values[-1], values[0])]
    memory = [large[1] / 1e6, small[1] / 1e6]
    for unit, (ours, theirs) in (("ms a request of all", seconds), ("MB at peak", memory)):
        ratio = theirs / ours
        name = f"{values[0]:,} {what}s"
        yield Row(case, unit, ours, name, theirs, ratio, ratio, ratio, "lower", None)


def _plot(found: dict) -> None:
    OUT.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(11, 5.5), layout="constrained")
    axes = figure.subplots(2, 3)
    for place, (what, values) in enumerate((("users", USERS), ("items", ITEMS), ("slate", SLATES))):
        rows = [found[_at(place, value)] for value in values]
        cost = [1e6 / row.ours for row, _ in rows], [memory / 1e6 for _, memory in rows]
        for axis, y, label in zip(axes[:, place], cost, ("µs an env step", "MB at peak"), strict=True):
            axis.plot(values, y, "o-")
            axis.set(xscale="log", yscale="log", xlabel=what, ylabel=label)
            axis.grid(alpha=0.3)
    figure.savefig(OUT, dpi=120)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=7, quick=3)

"""Steps per second of the batched market beside Gymnasium's vector of single people, and its memory.

A step shows a slate to everyone, replaces who has left, and looks at all. The peer steps as many people,
each an environment of its own over the same tables, in Gymnasium's SyncVectorEnv. Memory is that of all
tensors that live after a step, per person, with 16,384 people beside 4,096: a ratio of 1 is linear.
"""

import copy
import gc
from collections.abc import Callable, Iterator
from functools import partial

import gymnasium
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks.race import SEED, Row, main, race
from recloop.features import FeatureSpec
from recloop.market import GroundTruth, Market, SinglePerson, UserModel
from recloop.market.population import DEVICES, REGIONS, TRADES
from recloop.market.response import Response
from recloop.market.user_model import Start
from recloop.settings import load_params

PARAMS = load_params()
SLATE = PARAMS.market.slate
CROWDS = {1: 2000, 256: 16, 4096: 2}  # people, and steps of each that are timed
FEW, MANY = 4096, 16_384
PEER = f"gymnasium {gymnasium.__version__} SyncVectorEnv"


def ground_truth(device: str = "cpu") -> GroundTruth:
    """The demo's market, seen as its policies see it."""
    found = GroundTruth(PARAMS.market, PARAMS.reward, SEED, device=device)
    spec = FeatureSpec(
        item_ids=tuple(item.item_id for item in found.items),
        categories={"sex": ("F", "M"), "region": REGIONS, "looking_for": tuple(TRADES)},
        scales={}, devices=DEVICES, history=PARAMS.features.history, rating_positive=4.0,
    )  # fmt: skip
    return found.attach(spec)


def user_model(device: str = "cpu") -> UserModel:
    """A model of the demo's sizes; what its numbers are does not change its speed."""
    torch.manual_seed(SEED)
    start = ground_truth().reset(2000)
    sizes = start["profile"].shape[1], start["context"].shape[1], SLATE
    response = Response(torch.rand(PARAMS.market.items, 16), *sizes, PARAMS.user_model.dim)
    return UserModel(response, Start(**start), (1.0, 4.0, 0.0), PARAMS.market.horizon, device)


def crowd(market: GroundTruth | UserModel, people: int, steps: int) -> Callable[[], None]:
    """Steps of everyone at once."""
    market.reset(people)
    slates = torch.rand(people, market.n_items).argsort(1)[:, :SLATE].to(market.device)

    def run() -> None:
        for _ in range(steps):
            outcome = market.step(slates)
            market.arrive(outcome.done)
            market.observe()

    return run


def vector(market: Market, people: int, steps: int) -> Callable[[], None]:
    """Steps of one environment after another; copies share tables, and have people of their own."""
    places = [partial(SinglePerson, copy.copy(market), SLATE) for _ in range(people)]
    environments = SyncVectorEnv(places, autoreset_mode=AutoresetMode.SAME_STEP)
    environments.reset(seed=SEED)
    actions = torch.rand(people, market.n_items).argsort(1)[:, :SLATE].numpy()

    def run() -> None:
        for _ in range(steps):
            environments.step(actions)

    return run


def alive() -> int:
    """Bytes of all tensors that live, each storage once."""
    gc.collect()
    tensors = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
    return sum({x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in tensors}.values())


def per_person(market: Market, people: int) -> float:
    """Bytes that a person more takes, of so many people."""
    market.reset(1)
    fixed = alive()
    crowd(market, people, 2)()
    return (alive() - fixed) / people


def cases(repeats: int) -> Iterator[Row]:
    """Two kinds of market, three sizes, and how memory grows."""
    torch.set_num_threads(1)
    for name, market in (("ground truth", ground_truth()), ("user model", user_model())):
        for people, steps in CROWDS.items():
            ours, theirs = crowd(copy.copy(market), people, steps), vector(market, people, steps)
            case = f"{name}, {people:,} people"
            yield race(case, ours, PEER, theirs, people * steps, "env steps/s", repeats)
        few, many = per_person(market, FEW), per_person(market, MANY)
        case, peer, ratio = f"{name}, memory, {MANY:,} people", f"itself, {FEW:,} people", few / many
        yield Row(case, "bytes/person", many, peer, few, ratio, ratio, ratio, better="lower", limit=None)


if __name__ == "__main__":
    main(cases, __doc__ or "")

"""Env steps per second on a GPU beside the CPU of the same machine: the market alone, and learning in it.

The same code with the same sizes; only where tensors live differs. PPO and DQN learn in the ground truth,
slates of one item, with batches that grow with the people. The limit is what the GPU's kernels alone would
allow, were there no gaps between them. Ends at once where there is no GPU.
"""

import os
from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.market import crowd as steps_of
from benchmarks.market import ground_truth, user_model
from benchmarks.race import SEED, Row, main, race
from benchmarks.trainees.ours import ours
from benchmarks.trainees.world import agent
from recloop.agents.cluster import cluster
from recloop.settings.params import AgentParams

CROWDS = {256: 200, 2048: 100, 16_384: 25, 262_144: 4}  # people, and steps of each that are timed
STEPS = {"ppo": 16, "dqn": 8}  # requests of everyone that are timed
LEARNING = (256, 1024, 4096, 16_384)  # people at once
CORES = len(os.sched_getaffinity(0))


def sized(algorithm: str, people: int) -> AgentParams:
    """So many people at once, and batches and memory that grow with them; as shipped with 256."""
    chosen = agent(algorithm)
    times = people // chosen.users_at_once
    value, gradient = chosen.value, chosen.gradient
    changes = {
        "users_at_once": people, "train_batch": times * chosen.train_batch,
        "value": value.model_copy(update={"replay_capacity": max(value.replay_capacity, 64 * people)}),
        "gradient": gradient.model_copy(update={"minibatch": times * gradient.minibatch}),
    }  # fmt: skip
    return chosen.model_copy(update=changes)


def settled(run: Callable[[], object]) -> Callable[[], None]:
    """The run, and the end of all that it has set going on the GPU."""

    def both() -> None:
        run()
        torch.cuda.synchronize()

    return both


def busy(run: Callable[[], object]) -> float:
    """Seconds of one run in which the GPU's kernels are at work."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        run()
    return sum(event.self_device_time_total for event in seen.key_averages()) / 1e6


def duel(case: str, make: Callable[[str], Callable[[], object]], work: int, repeats: int) -> Iterator[Row]:
    """``make(device)``'s run on the GPU beside the CPU's, with as many threads."""
    fast = settled(make("cuda"))
    fast()
    limit = work / busy(fast)
    for threads in (1, CORES):
        torch.set_num_threads(threads)
        peer = f"CPU, {threads} threads" if threads > 1 else "CPU, 1 thread"
        yield race(case, fast, peer, make("cpu"), work, "env steps/s", repeats, limit)


def markets(repeats: int) -> Iterator[Row]:
    """Both kinds, with few people and with many."""
    for name, market in (("ground truth", ground_truth), ("user model", user_model)):
        for people, steps in CROWDS.items():

            def make(device: str, market=market, people=people, steps=steps) -> Callable[[], None]:
                return steps_of(market(device), people, steps)

            yield from duel(f"{name}, {people:,} people", make, people * steps, repeats)


def learning(repeats: int) -> Iterator[Row]:
    """Market, rows and learner on the GPU; and the learner alone."""
    for algorithm, requests in STEPS.items():
        for people in LEARNING:
            chosen, work = sized(algorithm, people), requests * people

            def make(
                device: str, chosen=chosen, work=work, market: str | None = None
            ) -> Callable[[], object]:
                gpus = 1.0 if device == "cuda" else 0.0
                placed = chosen.model_copy(update={"num_gpus_per_learner": gpus})
                trainee = ours(placed, SEED, market or device)
                return partial(trainee.run, work)

            title = f"{algorithm}, {people:,} people"
            yield from duel(title, make, work, repeats)
            yield race(
                title, settled(make("cuda")), "learner alone on the GPU",
                settled(partial(make, market="cpu")("cuda")), work, "env steps/s", repeats,
            )  # fmt: skip


def cases(repeats: int) -> Iterator[Row]:
    """The market, then learning.

    Raises:
        SystemExit: PyTorch sees no GPU.
    """
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch sees no GPU here: run this where there is one")
    print(torch.cuda.get_device_name(), f"and {CORES} cores; torch {torch.__version__}")
    yield from markets(repeats)
    with cluster():
        yield from learning(repeats)


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5, quick=3)

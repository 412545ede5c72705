"""Env steps per second, learning included, beside RLlib's own, stable-baselines3 and plain loops in torch.

All learn in the market's ground truth, one item a request, by the same network, with the same batch,
minibatch, epochs, learning rate and gradient updates per env step; the benchmark checks the number of
parameters. That what is learnt is the same is for `benchmarks.learning`. Peers see an observation as one
vector, which is their fastest form.

Prints last where our own time goes, and plots it beside the JSON file.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.race import SEED, Row, main, race
from benchmarks.trainees.baselines import baselines
from benchmarks.trainees.breakdown import breakdown, plot, show
from benchmarks.trainees.limit import arithmetic_limit
from benchmarks.trainees.ours import ours
from benchmarks.trainees.plain import plain
from benchmarks.trainees.rllib import stock
from benchmarks.trainees.world import Trainee, agent, size
from recloop.agents.cluster import cluster
from recloop.settings.params import AgentParams

STEPS = {"ppo": 4096, "dqn": 2048}
PRIORITY = 0.6
CASES = {"ppo": ("ppo", 0.0), "dqn": ("dqn", 0.0), "dqn, prioritised": ("dqn", PRIORITY)}
spent: dict[str, dict[str, float]] = {}

Make = Callable[[AgentParams, int], Trainee]


def peers(prioritised: bool) -> list[Make]:
    """All of them."""
    two, vectorised = partial(stock, runners=2), partial(stock, vectorised=True)
    if prioritised:  # stable-baselines3 has no prioritised replay
        return [stock, two, vectorised, plain]
    return [stock, two, baselines, vectorised, partial(baselines, vectorised=True), plain]


def cases(repeats: int) -> Iterator[Row]:
    """PPO, DQN and prioritised DQN beside each peer, at the loop's own sizes."""
    torch.set_num_threads(1)
    with cluster(workers=2):
        for case, (algorithm, priority) in CASES.items():
            chosen, others = agent(algorithm, priority=priority), peers(priority > 0)
            for make in others:
                yield _race(case, chosen, make, repeats)
            spent[case] = breakdown(chosen, 4 * STEPS[algorithm])


def _race(case: str, chosen: AgentParams, make: Make, repeats: int) -> Row:
    mine, other = ours(chosen, SEED), make(chosen, SEED)
    assert size(mine.network()) == size(other.network()), "networks of different sizes"
    steps = STEPS[chosen.algorithm]
    found = race(
        case, lambda: mine.run(steps), other.title, lambda: other.run(steps), steps, "env steps/s", repeats,
        arithmetic_limit(chosen),
    )  # fmt: skip
    mine.close(), other.close()
    return found


if __name__ == "__main__":
    main(cases, __doc__ or "", repeats=5)
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--json", type=Path)
    where = parser.parse_known_args()[0].json
    show(spent)
    if where:
        plot(spent, where.with_suffix(".png"))

"""Ours, as it ships."""

from functools import partial
from typing import Any

from benchmarks.trainees.world import Trainee, market, shape
from recloop.agents.build import build
from recloop.settings.params import AgentParams


def ours(chosen: AgentParams, seed: int, device: str = "cpu") -> Trainee:
    """The algorithm that ``chosen`` names, in a market on ``device``; Ray must be running."""
    algorithm: Any = build(chosen, seed, shape(), partial(market, device))
    return Trainee("recloop", lambda steps: advance(algorithm, steps), algorithm.network, algorithm.stop)


def advance(algorithm: Any, steps: int) -> None:
    """Answer so many requests, and learn from them."""
    goal = algorithm.env_steps + steps
    while algorithm.env_steps < goal:
        algorithm.step()

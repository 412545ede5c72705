"""Agents that learn in a market, on RLlib: networks, algorithms, a batched env runner, training."""

from recloop.agents.inputs import TrainingError
from recloop.agents.train import train

__all__ = ["TrainingError", "train"]

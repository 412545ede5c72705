"""Agents that learn in a market, on RLlib: networks, algorithms, a batched env runner, training."""

from recloop.agents.train import TrainingError, train

__all__ = ["TrainingError", "train"]

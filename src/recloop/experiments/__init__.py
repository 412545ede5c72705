"""Experiments: who gets what, and whether what came of it differs."""

from recloop.experiments.assignment import in_challenger, place
from recloop.experiments.difference import Clusters, Difference, difference, excess, sample_ratio

__all__ = ["Clusters", "Difference", "difference", "excess", "in_challenger", "place", "sample_ratio"]

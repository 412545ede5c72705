"""Experiments: who gets what, and whether what came of it differs.

Modules by name: ``plan`` (how many people), ``catalogue`` (which run, who is in which arm), ``metrics`` (what
people did since), ``group_sequential``, ``sequence`` and ``cuped`` (inference), ``drift`` (distances between
samples), ``report`` and ``verdict`` (what it says), ``interleaving`` (rankers, faster).
"""

from recloop.experiments.assignment import arm, bucket, in_challenger, place
from recloop.experiments.difference import Clusters, Difference, difference
from recloop.experiments.sequence import effective, excess, sample_ratio, watched

__all__ = [
    "Clusters",
    "Difference",
    "arm",
    "bucket",
    "difference",
    "effective",
    "excess",
    "in_challenger",
    "place",
    "sample_ratio",
    "watched",
]

"""Policies as they are exported, checked, scored and sampled. Needs neither ray, mlflow nor torch."""

from recloop.policy.artefact import ArtefactError, Manifest, Policy, load, verify, write_artefact
from recloop.policy.baselines import most_popular, uniform
from recloop.policy.retrieval import Retriever
from recloop.policy.sampling import Sampler, Scorer, Slates, draw, propensities
from recloop.policy.shares import NothingLeft, uniform_share

__all__ = [
    "ArtefactError",
    "Manifest",
    "NothingLeft",
    "Policy",
    "Retriever",
    "Sampler",
    "Scorer",
    "Slates",
    "draw",
    "load",
    "most_popular",
    "propensities",
    "uniform",
    "uniform_share",
    "verify",
    "write_artefact",
]

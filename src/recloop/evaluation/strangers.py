"""A policy in the non-personalised mode: what a slot answers who does not agree to personalisation."""

from dataclasses import replace

import numpy as np

from recloop.features import FeatureSpec
from recloop.policy import Sampler


def to_strangers(sampler: Sampler, spec: FeatureSpec) -> Sampler:
    """The sampler as it serves people of whom it knows moment and device, but no profile and no past."""
    profile, nobody = spec.profile(None), len(spec.item_ids)

    def score(observation: dict[str, np.ndarray]) -> np.ndarray:
        rows = len(observation["context"])
        seen = {"profile": np.tile(profile, (rows, 1)), "history": np.full((rows, spec.history), nobody)}
        return sampler.score(observation | seen)

    return replace(sampler, score=score, retriever=None)

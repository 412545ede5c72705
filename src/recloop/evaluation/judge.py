"""The judge: people whom no policy learnt from, as a user model and as a log."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from recloop.evaluation.off_policy import Method, Weighting, calibrate, choose, diagnose, estimates, read_log
from recloop.evaluation.ranking import leave_last_out, rank_last_out
from recloop.evaluation.value import Returns, value_in_market
from recloop.features import Catalogue, FeatureSpec, Steps
from recloop.market import Market, UserModel
from recloop.policy import Sampler, most_popular, uniform
from recloop.settings import Params

RANKED = 10  # k of the ranking metrics
ESTIMATES: dict[str, tuple[Method, Weighting | Literal["session"]]] = {
    "dr": ("dr", "prefix"),
    "sndr": ("sndr", "prefix"),
    "switch_dr": ("switch_dr", "prefix"),
    "dr_optimistic": ("dr_optimistic", "prefix"),
    "dr_pessimistic": ("dr_pessimistic", "prefix"),
    "dm": ("dm", "prefix"),
    "snips": ("snips", "slate"),
    "ips": ("ips", "slate"),
    "clipped": ("clipped", "slate"),
    "prefix_snips": ("snips", "prefix"),
    "position_snips": ("snips", "position"),
    "session_pdis": ("pdis", "session"),
    "session_wpdis": ("wpdis", "session"),
    "session_dr": ("dr_sequence", "session"),
    "session_wdr": ("wdr", "session"),
}


@dataclass(frozen=True)
class Judge:
    """Judges samplers by one data version.

    Attributes:
        spec: how observations are made.
        catalogue: the items' arrays.
        steps: the test people's log.
        learnt: the user model of the train people, for what learns from them.
        unseen: the user model of the test people, in which values are measured.
        params: params.yaml.
        seed: of all that is drawn.
        launched: int64 (N,), since when each item is in the catalogue, µs since 1970; None: always.
    """

    spec: FeatureSpec
    catalogue: Catalogue
    steps: Steps
    learnt: UserModel
    unseen: UserModel
    params: Params
    seed: int
    launched: np.ndarray | None = None

    @classmethod
    def load(cls, features: Path, user_models: Path, params: Params, seed: int) -> "Judge":
        """Read ``spec.json``, ``items.npz``, ``items.json``, ``test.npz`` and both user models."""
        items = json.loads((features / "items.json").read_text())
        return cls(
            FeatureSpec.load(features / "spec.json"),
            Catalogue.load(features / "items.npz"),
            Steps.load(features / "test.npz"),
            UserModel.load(user_models / "train"),
            UserModel.load(user_models / "test"),
            params,
            seed,
            np.array([item["created_at"] for item in items], np.int64),
        )

    def baselines(self) -> dict[str, Sampler]:
        """``random``, ``most_popular``, and ``myopic``: the train people's click model, greedy for clicks.

        They draw as policies are served.
        """
        serving, sold_out = self.params.serving, ~self.catalogue.available
        draws = (serving.temperature, serving.exploration, sold_out, serving.propensity_floor)
        return {
            "random": uniform(len(sold_out), sold_out),
            "most_popular": most_popular(self.catalogue.popularity, *draws),
            "myopic": Sampler(self.learnt.click_scores, *draws),
        }

    def value(self, sampler: Sampler, market: Market | None = None) -> Returns:
        """Returns in the test people's user model, or in another market."""
        people, slate = self.params.evaluation.users, self.params.serving.slate
        horizon = self.params.market.horizon
        return value_in_market(sampler, market or self.unseen, people, slate, horizon, self.seed)

    def off_policy(self, sampler: Sampler) -> dict[str, dict[str, float | str | None]]:
        """Estimates on the test people's log, by the names of ``ESTIMATES``; ready for JSON.

        Reward per request, that of ``session_...`` per session. ``chosen`` is the estimator that the log
        itself recommends, and why; ``diagnostics`` say whether the log can answer for this policy at all.
        """
        settings = self.params.evaluation
        log = read_log(self.steps, sampler, self.learnt, len(self.spec.item_ids), self.seed, self.launched)
        given = (settings.minimum_effective_sample, settings.bootstrap, self.seed, diagnose(log))
        found = estimates(log, ESTIMATES, *given) | {"chosen": choose(log, *given)}
        calibration = calibrate(self.steps, len(self.spec.item_ids), self.launched)
        return {name: estimate.as_dict() for name, estimate in found.items()} | {
            "diagnostics": given[-1].as_dict() | calibration.as_dict()
        }

    def ranking(self, sampler: Sampler) -> dict[str, float | None]:
        """Leave-last-out metrics at ``RANKED`` over the whole catalogue; None where nobody acted."""
        left_out = leave_last_out(self.steps, len(self.spec.item_ids))
        metrics = rank_last_out(sampler.score, left_out, RANKED, self.seed, sampler.excluded)
        return {name: None if np.isnan(value) else value for name, value in metrics.items()}

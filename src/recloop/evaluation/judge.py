"""The judge: people whom no policy learnt from, as a user model and as a log."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from recloop.evaluation.beyond import Library
from recloop.evaluation.leakage import Leak, history_leaks, item_leaks, popularity_before, training_leaks
from recloop.evaluation.off_policy import Method, Weighting, calibrate, choose, diagnose, estimates, read_log
from recloop.evaluation.protocols import Hidden, leave_last_out, rank_all, time_split
from recloop.evaluation.value import Returns, value_in_market
from recloop.features import Acts, Catalogue, FeatureSpec, Steps
from recloop.market import Market, UserModel
from recloop.policy import Sampler, most_popular, uniform
from recloop.schema import Item
from recloop.settings import Params

RANKED = 10  # k of the ranking metrics
LATER = 0.8  # share of the test people's requests that come before the time split
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
        items: the catalogue's records.
        acts: the test people's positive acts.
        train_acts: the train people's.
        train_ts: int64 (R,), when the train people's requests came, µs since 1970.
        launched: int64 (N,), since when each item can be shown, µs since 1970.
    """

    spec: FeatureSpec
    catalogue: Catalogue
    steps: Steps
    learnt: UserModel
    unseen: UserModel
    params: Params
    seed: int
    items: list[Item]
    acts: Acts
    train_acts: Acts
    train_ts: np.ndarray
    launched: np.ndarray

    @classmethod
    def load(cls, features: Path, user_models: Path, params: Params, seed: int) -> "Judge":
        """Read what ``build_features`` wrote, and both user models."""
        train, test = (Steps.load(features / f"{split}.npz") for split in ("train", "test"))
        offers = [Item(**row) for row in json.loads((features / "items.json").read_text())]
        return cls(
            FeatureSpec.load(features / "spec.json"),
            Catalogue.load(features / "items.npz"),
            test,
            UserModel.load(user_models / "train"),
            UserModel.load(user_models / "test"),
            params,
            seed,
            offers,
            Acts.load(features / "test_acts.npz"),
            Acts.load(features / "train_acts.npz"),
            train.ts,
            launches(offers, train, test),
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

    @cached_property
    def library(self) -> Library:
        """The catalogue with the train people's popularity, one category an item."""
        names, at = np.unique([item.category for item in self.items], return_inverse=True)
        return Library(self.catalogue.features, self.catalogue.popularity, np.eye(len(names))[at])

    def ranking(self, sampler: Sampler) -> dict[str, float | None]:
        """Leave-last-out metrics at ``RANKED`` over the whole catalogue; None where nobody acted."""
        return self._ranking(sampler, leave_last_out(self.steps, len(self.spec.item_ids)))

    def ranking_later(self, sampler: Sampler) -> dict[str, float | None]:
        """The same of what people acted on after the time split."""
        return self._ranking(sampler, time_split(self.steps, len(self.spec.item_ids), self.split_at))

    def _ranking(self, sampler: Sampler, hidden: Hidden) -> dict[str, float | None]:
        metrics = rank_all(sampler.score, hidden, RANKED, self.seed, sampler.excluded, self.library)
        return {name: None if np.isnan(value) else value for name, value in metrics.items()}

    @cached_property
    def split_at(self) -> int:
        """µs since 1970: when ``LATER`` of the test people's requests had come."""
        return int(np.quantile(self.steps.ts, LATER, method="higher"))

    def leaks(self) -> list[Leak]:
        """What would make every figure here too good: empty, or the evaluation must not go on."""
        size = len(self.spec.item_ids)
        popularity = popularity_before(self.train_acts, size)
        return history_leaks(self.steps, self.acts, size) + item_leaks(self.catalogue.popularity, popularity)

    def later_leaks(self) -> list[Leak]:
        """What a policy may know from the train people of the time after the split."""
        popularity = popularity_before(self.train_acts, len(self.spec.item_ids), self.split_at)
        return training_leaks(self.train_ts, self.split_at) + item_leaks(
            self.catalogue.popularity, popularity
        )


def launches(offers: Sequence[Item], *logs: Steps) -> np.ndarray:
    """int64 (N,): since when each item can be shown, µs since 1970; 0, which is ever, where nobody knows.

    That is where it was shown before it was created: then the catalogue is younger than the log.
    """
    created = np.array([offer.created_at for offer in offers], np.int64)
    met = np.append(created, 0)
    for log in logs:
        np.minimum.at(met, log.slate, log.ts[:, None])
    return np.where(met[:-1] < created, 0, created)

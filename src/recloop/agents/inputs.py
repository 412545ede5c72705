"""What training reads, checked: features, catalogue, user model and log, as preprocessing left them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from recloop.agents.log import LoggedRows, UnusableLogError
from recloop.agents.network import Shape
from recloop.features import Catalogue, FeaturesError, FeatureSpec, Steps
from recloop.market import UserModel

AGAIN = "make the features again with `dvc repro -f preprocess`"
REFIT = "fit it again with `dvc repro user_model`"


class TrainingError(ValueError):
    """The agent cannot be trained on this data; the message says why."""


@dataclass(frozen=True)
class Inputs:
    """One data version.

    Attributes:
        spec: how observations are made.
        catalogue: the items' arrays.
        judge: the train people's user model.
        files: all that was read but the log; what a run depends on.
    """

    spec: FeatureSpec
    catalogue: Catalogue
    judge: UserModel
    files: tuple[Path, ...]

    @property
    def shape(self) -> Shape:
        """What a network for these features is built for."""
        spec, items = self.spec, self.catalogue
        return Shape(items.features, spec.profile_size, spec.context_size, spec.history, items.available)


def read_inputs(features: Path, user_model: Path) -> Inputs:
    """Read ``spec.json``, ``items.npz`` and the user model.

    Raises:
        TrainingError: something is missing, damaged, of another layout, or of another catalogue.
        UserModelError: the user model cannot be read.
    """
    items, path = features / "items.npz", features / "spec.json"
    try:
        spec, catalogue = FeatureSpec.load(path), Catalogue.load(items)
    except (OSError, ValidationError) as error:
        raise TrainingError(f"{path} cannot be read ({error}): {AGAIN}") from error
    except FeaturesError as error:
        raise TrainingError(str(error)) from error
    count = len(catalogue.features)
    if not count:
        raise TrainingError("the catalogue is empty: add items to the store, then advance the watermark")
    if count != len(spec.item_ids):
        raise TrainingError(
            f"{items} has {count} items and {path} names {len(spec.item_ids)}: they are of different data;"
            f" {AGAIN}"
        )
    wrong = np.flatnonzero(~np.isfinite(catalogue.features).all(0))
    if len(wrong):
        raise TrainingError(
            f"{items}: column {wrong[0]} of `features` ({catalogue.groups[wrong[0]]}) is not finite: correct"
            " the items in the store, then advance the watermark"
        )
    judge = UserModel.load(user_model)
    _fits(judge, spec, catalogue)
    return Inputs(spec, catalogue, judge, (path, items, *sorted(user_model.iterdir())))


def _fits(judge: UserModel, spec: FeatureSpec, catalogue: Catalogue) -> None:
    count = len(catalogue.features)
    if judge.n_items != count:
        raise TrainingError(f"the user model knows {judge.n_items} items, the catalogue has {count}: {REFIT}")
    start = judge.start
    for name, has, wanted in (
        ("columns of the profile", start.profile.shape[1], spec.profile_size),
        ("columns of the context", start.context.shape[1], spec.context_size),
        ("acts of the history", start.history.shape[1], spec.history),
        ("columns of item features", judge.response.features.shape[1], catalogue.features.shape[1]),
    ):
        if has != wanted:
            raise TrainingError(f"the user model has {has} {name}, the features {wanted}: {REFIT}")


def read_log(features: Path, spec: FeatureSpec, gamma: float) -> LoggedRows:
    """The train split's rows.

    Raises:
        TrainingError: ``train.npz`` is missing, damaged, of another layout, or cannot be learnt from.
    """
    path, count = features / "train.npz", len(spec.item_ids)
    try:
        steps = Steps.load(path)
        for name, wanted in (
            ("profile", spec.profile_size),
            ("context", spec.context_size),
            ("history", spec.history),
        ):
            has = getattr(steps, name).shape[1]
            if has != wanted:
                raise TrainingError(f"{path}: `{name}` has {has} columns, spec.json says {wanted}: {AGAIN}")
        if steps.slate.size and not 0 <= steps.slate.min() <= steps.slate.max() <= count:
            raise TrainingError(f"{path}: `slate` names items beyond the {count} of spec.json: {AGAIN}")
        return LoggedRows.of(steps, count, gamma)
    except (FeaturesError, UnusableLogError) as error:
        raise TrainingError(str(error)) from error

"""Fitting a user model on a log, and saying how well it predicts people held out."""

import numpy as np
import torch
from torch import Tensor

from recloop.features import Catalogue, Steps
from recloop.market.likelihood import (
    LONGEST,
    Batch,
    Choosing,
    Leaving,
    losses,
    request_numbers,
    weights,
)
from recloop.market.measures import calibration_error, ranking_quality
from recloop.market.optimise import fit_choosing, fit_leaving
from recloop.market.response import Response
from recloop.market.threads import single_thread
from recloop.market.user_model import Start, UserModel
from recloop.settings.params import UserModelParams

HELD_OUT = 0.15
Predictions = dict[str, tuple[Tensor, Tensor]]


class NothingToLearnError(ValueError):
    """The log holds no response that could be fitted."""


class BadLogError(ValueError):
    """The log or the catalogue holds what no response could be fitted on."""


def fit_user_model(
    steps: Steps, catalogue: Catalogue, params: UserModelParams, seed: int, name: str
) -> tuple[UserModel, dict[str, float]]:
    """Fit on logged steps; returns the model and how well it predicts the people held out.

    Choices count by ``likelihood.weights``, in the fit alone. The figures, for ``choice`` (of an item,
    or none), ``extra`` feedback and ``leave``: log-likelihood per case beside that of constant rates
    (``..._constant``), expected calibration error and area under the ROC curve (``click_...``: of a
    choice of anything). The same held-out people decide when to stop fitting choices, so those figures
    are a little too good.

    Raises:
        NothingToLearnError: the log holds no positive feedback, or one person alone.
        BadLogError: the catalogue is empty, or a number is not finite, or a slate names an item that
            the catalogue has not.
    """
    _check(steps, catalogue, name)
    torch.manual_seed(seed)
    worth, threshold = _worth(steps)
    data, is_held = _tensors(steps, threshold, params.weight_clip), _held_out(steps, seed)
    model = _initial(steps, catalogue, params)
    with single_thread():
        fit_choosing(Choosing(model, data, is_held), params, seed, f"user model {name}: choice")
        fit_leaving(Leaving(model, data, steps, is_held), seed, f"user model {name}: leaving")
        figures = _figures(model, data, steps, is_held)
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    start = Start(*(torch.from_numpy(getattr(steps, k)[first]) for k in ("profile", "context", "history")))
    longest = min(LONGEST, int(request_numbers(steps).max()))
    return UserModel(model, start, worth, longest), figures


@torch.no_grad()
def held_out_predictions(model: UserModel, steps: Steps, seed: int) -> Predictions:
    """The chances that a model fitted on these steps gave to ``click``, ``extra`` and ``leave`` of the
    people held out by that seed, each float32 (n,), and what they did, 0 or 1."""
    is_held = _held_out(steps, seed)
    data = _tensors(steps, _worth(steps)[1], 1.0)
    found: Predictions = {}
    for part in (Choosing(model.response, data, is_held), Leaving(model.response, data, steps, is_held)):
        for name, (logit, seen) in part.terms(part.held).items():
            if name == "choice":
                found["click"] = 1 - logit.softmax(1)[:, 0], (seen > 0).float()
            else:
                found[name] = logit.sigmoid(), seen
    return found


def _check(steps: Steps, catalogue: Catalogue, name: str) -> None:
    count = len(catalogue.features)
    if not count:
        raise BadLogError("the catalogue is empty: add items to the store, then advance the watermark")
    if not (steps.clicked >= 0).any():
        raise NothingToLearnError(
            f"the {name} log of {len(steps)} requests holds no click: there is no response to learn from."
            " Collect feedback first, or check that its events name their request_id"
        )
    if len(np.unique(steps.user)) < 2:
        raise NothingToLearnError(
            f"the {name} log is of one person: at least one more is held out to judge by"
        )
    for where in ("reward", "profile", "context"):
        bad = int((~np.isfinite(getattr(steps, where)).reshape(len(steps), -1).all(1)).sum())
        if bad:
            raise BadLogError(
                f"{bad} of {len(steps)} requests of the {name} log have a {where} that is not finite: run"
                " preprocess again on validated data, and check the values of its events"
            )
    if not np.isfinite(catalogue.features).all():
        raise BadLogError("the catalogue has item features that are not finite: run preprocess again")
    if steps.slate.min() < 0 or steps.slate.max() > count:
        raise BadLogError(
            f"slates of the {name} log name items that the catalogue of {count} has not: both must come"
            " from the same run of preprocess"
        )


def _worth(steps: Steps) -> tuple[tuple[float, float, float], float]:
    """Mean reward of a plain click, of what comes on top, and without a click; and what parts them.

    A click is plain if its reward is near the least that clicks are commonly worth, so that both means
    together give the log's mean reward back, however many clicks end in a purchase.
    """
    clicked = steps.clicked >= 0
    rewards = steps.reward[clicked]
    threshold = float(np.quantile(rewards, 0.02)) + 1e-3
    plain, more = rewards[rewards <= threshold], rewards[rewards > threshold]
    click = float(plain.mean())
    beyond = float(more.mean()) - click if len(more) else 0.0
    nothing = float(steps.reward[~clicked].mean()) if (~clicked).any() else 0.0
    return (click, beyond, nothing), threshold


def _tensors(steps: Steps, threshold: float, clip: float) -> Batch:
    plain = ("profile", "context", "history", "slate", "position", "clicked", "done")
    arrays = {name: getattr(steps, name) for name in plain} | {
        "extra": (steps.clicked >= 0) & (steps.reward > threshold),
        "weight": weights(steps.propensity, steps.position >= 0, clip),
    }
    return {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in arrays.items()}


def _initial(steps: Steps, catalogue: Catalogue, params: UserModelParams) -> Response:
    """A model that predicts the log's mean rate of choosing."""
    sizes = steps.profile.shape[1], steps.context.shape[1], int(steps.position.max()) + 1
    model = Response(torch.from_numpy(catalogue.features), *sizes, params.dim)
    rate = float((steps.clicked >= 0).mean())
    shown = float((steps.position >= 0).sum(1).mean())
    with torch.no_grad():
        model.click_bias.fill_(float(np.log(rate / (1 - rate + 1e-6) / shown)))
    return model


def _held_out(steps: Steps, seed: int) -> np.ndarray:
    """bool (R,): the requests of people who are not fitted on."""
    people = np.unique(steps.user)
    drawn = np.random.default_rng([seed, 3]).permutation(people)
    return np.isin(steps.user, drawn[: max(1, int(HELD_OUT * len(people)))])


@torch.no_grad()
def _figures(model: Response, data: Batch, steps: Steps, is_held: np.ndarray) -> dict[str, float]:
    figures: dict[str, float] = {}
    for part in (Choosing(model, data, is_held), Leaving(model, data, steps, is_held)):
        terms = part.terms(part.held)
        for name, loss in losses(terms).items():
            logit, seen = terms[name]
            if not len(seen):
                continue
            figures[f"{name}_loglik"] = -float(loss)
            event = "click" if name == "choice" else name
            if name == "choice":
                rates = torch.bincount(seen, minlength=logit.shape[1]).double() / len(seen)
                chance, seen = 1 - logit.softmax(1)[:, 0], (seen > 0).float()
            else:
                rates = torch.stack([1 - seen.mean(), seen.mean()]).double()
                chance = logit.sigmoid()
            figures[f"{name}_constant"] = float(torch.special.xlogy(rates, rates).sum())
            figures[f"{event}_calibration_error"] = calibration_error(chance, seen)
            if 0 < seen.mean() < 1:
                figures[f"{event}_auc"] = ranking_quality(chance, seen)
    return figures

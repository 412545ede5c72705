"""Fitting a user model: maximum a posteriori on a log, stopped early on people held out."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from recloop.features import Catalogue, Steps
from recloop.market.measures import calibration_error, ranking_quality
from recloop.market.response import Response
from recloop.market.threads import single_thread
from recloop.market.user_model import Start, UserModel
from recloop.settings.params import UserModelParams

LONGEST = 50  # requests after which a simulated person is sent home, whatever the log holds
CHUNK = 32  # requests of a session that are unrolled at once
HELD_OUT = 0.15
PATIENCE = 6  # epochs without a better held-out likelihood
DECAY = 1.0  # weight decay of the maps of choosing, by AdamW
# Standard deviations of the Gaussian priors on what an item has of its own.
PRIORS = {"item_own": 0.1, "trait_own": 0.5, "leaving.lasting_own": 0.2}
LEAVING_RATE = 4.0  # learning rate of leaving, in units of the configured one
Batch = dict[str, Tensor]
Terms = dict[str, tuple[Tensor, Tensor]]


class NothingToLearnError(ValueError):
    """The log holds no response that could be fitted."""


def fit_user_model(
    steps: Steps, catalogue: Catalogue, params: UserModelParams, seed: int, name: str
) -> tuple[UserModel, dict[str, float]]:
    """Fit on logged steps; returns the model and how well it predicts the people held out.

    The figures, for ``choice`` (of an item, or none), ``extra`` feedback and ``leave``: log-likelihood
    per case beside that of constant rates (``..._constant``), expected calibration error and area
    under the ROC curve (``click_...``: of a choice of anything). The same held-out people decide when
    to stop, so the figures are a little too good.

    Raises:
        NothingToLearnError: the log holds no positive feedback, or one person alone.
    """
    if not (steps.clicked >= 0).any():
        raise NothingToLearnError(
            f"the {name} log of {len(steps)} requests holds no click: there is no response to learn from."
            " Collect feedback first, or check that its events name their request_id"
        )
    if len(np.unique(steps.user)) < 2:
        raise NothingToLearnError(
            f"the {name} log is of one person: at least one more is held out to judge by"
        )
    torch.manual_seed(seed)
    worth, threshold = _worth(steps)
    data = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in _arrays(steps, threshold).items()}
    model = _initial(steps, catalogue, params)
    is_held = np.isin(steps.user, _held_out(steps, seed))
    with single_thread():
        for kind in (_Choosing, _Leaving):
            part = kind(model, data, steps, is_held)
            _optimise(part, params, seed, f"user model {name}: {part.title}")
        figures = _figures(_Choosing(model, data, steps, is_held), _Leaving(model, data, steps, is_held))
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    start = Start(*(torch.from_numpy(getattr(steps, k)[first]) for k in ("profile", "context", "history")))
    longest = min(LONGEST, int(np.bincount(steps.session).max()))
    return UserModel(model, start, worth, longest), figures


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


def _arrays(steps: Steps, threshold: float) -> dict[str, np.ndarray]:
    return {
        "profile": steps.profile,
        "context": steps.context,
        "history": steps.history,
        "slate": steps.slate,
        "position": steps.position,
        "clicked": steps.clicked,
        "extra": (steps.clicked >= 0) & (steps.reward > threshold),
        "done": steps.done,
    }


def _initial(steps: Steps, catalogue: Catalogue, params: UserModelParams) -> Response:
    """A model that predicts the log's mean rates."""
    sizes = steps.profile.shape[1], steps.context.shape[1], int(steps.position.max()) + 1
    model = Response(torch.from_numpy(catalogue.features), *sizes, params.dim)
    rate = float((steps.clicked >= 0).mean())
    shown = float((steps.position >= 0).sum(1).mean())
    leaves = float(np.clip(steps.done.mean(), 1e-3, 1 - 1e-3))
    with torch.no_grad():
        model.click_bias.fill_(float(np.log(rate / (1 - rate + 1e-6) / shown)))
        model.leaving.base.fill_(float(np.log(leaves / (1 - leaves))))
    return model


def _held_out(steps: Steps, seed: int) -> np.ndarray:
    people = np.unique(steps.user)
    drawn = np.random.default_rng([seed, 3]).permutation(people)
    return drawn[: max(1, int(HELD_OUT * len(people)))]


class _Choosing:
    """Choice and extra feedback: requests are independent cases, given what was observed."""

    title = "choice"

    def __init__(self, model: Response, data: Batch, steps: Steps, is_held: np.ndarray) -> None:
        self.model, self.data, self.rate, self.decay = model, data, 1.0, DECAY
        self.train = torch.from_numpy(np.flatnonzero(~is_held))
        self.held = torch.from_numpy(np.flatnonzero(is_held))
        self.cases = len(self.train)
        self.parameters = {n: p for n, p in model.named_parameters() if not n.startswith("leaving.")}

    def batches(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        return self.train[torch.randperm(len(self.train), generator=generator)].split(size)

    def terms(self, rows: Tensor) -> Terms:
        """Per kind of behaviour: logits and what was seen."""
        model, data = self.model, self.data
        items = model.items()
        liking, extra = model.people({k: data[k][rows] for k in ("profile", "context", "history")}, items)
        slate, clicked = data["slate"][rows], data["clicked"][rows]
        utilities = model.utilities(liking, items, slate, data["position"][rows])
        choice = torch.cat([torch.zeros_like(utilities[:, :1]), utilities], 1)
        has = clicked >= 0
        item = slate.gather(1, clicked.clamp(min=0)[:, None])[:, 0]
        more = model.extra_logit(extra[has], items, item[has])
        return {"choice": (choice, clicked + 1), "extra": (more, data["extra"][rows][has].float())}


class _Leaving:
    """Leaving: a case is a piece of a session, whose requests are unrolled in order."""

    title = "leaving"

    def __init__(self, model: Response, data: Batch, steps: Steps, is_held: np.ndarray) -> None:
        self.model, self.rate, self.decay = model, LEAVING_RATE, 0.0
        sessions = _sessions(steps)
        held = torch.from_numpy(is_held)[sessions[:, 0]]
        self.train, self.held = sessions[~held], sessions[held]
        self.cases = int((self.train >= 0).sum())
        self.parameters = {n: p for n, p in model.named_parameters() if n.startswith("leaving.")}
        clicked = data["clicked"]
        item = data["slate"].gather(1, clicked.clamp(min=0)[:, None])[:, 0]
        self.item, self.clicked = item.clamp(max=len(model.features) - 1), clicked >= 0
        self.done = data["done"].float()

    def batches(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        per_batch = max(1, size * len(self.train) // max(1, self.cases))
        return self.train[torch.randperm(len(self.train), generator=generator)].split(per_batch)

    def terms(self, sessions: Tensor) -> Terms:
        """Logits of leaving after each request, and who left."""
        leaving, real = self.model.leaving, sessions >= 0
        rows = sessions.clamp(min=0)
        effects = leaving.effects(self.model.features)
        feeling, felt = torch.zeros(len(sessions)), []
        for t in range(sessions.shape[1]):
            feeling = leaving.feel(feeling, effects, self.item[rows[:, t]], self.clicked[rows[:, t]])
            felt.append(feeling)
        return {"leave": (leaving.logit(torch.stack(felt, 1)[real]), self.done[sessions[real]])}


def _sessions(steps: Steps) -> Tensor:
    """int64 (S, CHUNK): row numbers of each session's requests, in order, padded with -1."""
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    lengths = np.diff(np.append(first, len(steps)))
    starts = np.concatenate([np.arange(f, f + n, CHUNK) for f, n in zip(first, lengths, strict=True)])
    ends = np.repeat(first + lengths, -(-lengths // CHUNK))
    rows = starts[:, None] + np.arange(CHUNK)
    rows = np.where(rows < ends[:, None], rows, -1)
    return torch.from_numpy(rows[:, : max(1, int((rows >= 0).sum(1).max()))])


def _losses(terms: Terms) -> dict[str, Tensor]:
    losses = {}
    for name, (logit, seen) in terms.items():
        loss: Callable = (
            functional.cross_entropy if name == "choice" else functional.binary_cross_entropy_with_logits
        )
        losses[name] = loss(logit, seen) if len(seen) else torch.zeros(())
    return losses


def _optimise(part: "_Choosing | _Leaving", params: UserModelParams, seed: int, title: str) -> None:
    own = {name: p for name, p in part.parameters.items() if name in PRIORS}
    maps = [p for name, p in part.parameters.items() if name not in PRIORS]
    groups = [
        {"params": list(own.values()), "weight_decay": 0.0},
        {"params": maps, "weight_decay": part.decay},
    ]
    optimiser = torch.optim.AdamW(groups, lr=part.rate * params.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    cases = part.cases
    best, since, kept = _held_out_loss(part), 0, _copy(part.parameters)
    with tqdm(total=params.epochs, desc=title, unit="epoch", mininterval=1) as bar:
        for _ in range(params.epochs):
            for batch in part.batches(params.batch, generator):
                prior = sum(
                    (p.square().sum() / PRIORS[name] ** 2 for name, p in own.items()), torch.zeros(())
                )
                loss = sum(_losses(part.terms(batch)).values(), 0.5 * prior / cases)
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            now = _held_out_loss(part)
            bar.set_postfix(loss=f"{now:.3f}", refresh=False)
            bar.update()
            since += 1
            if now < best:
                best, since, kept = now, 0, _copy(part.parameters)
            if since == PATIENCE:
                break
    with torch.no_grad():
        for name, p in part.parameters.items():
            p.copy_(kept[name])


@torch.no_grad()
def _held_out_loss(part: "_Choosing | _Leaving") -> float:
    return float(sum(_losses(part.terms(part.held)).values()))


def _copy(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in parameters.items()}


@torch.no_grad()
def _figures(*parts: "_Choosing | _Leaving") -> dict[str, float]:
    figures: dict[str, float] = {}
    for part in parts:
        terms = part.terms(part.held)
        for name, loss in _losses(terms).items():
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

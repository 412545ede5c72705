"""Fitting a user model: maximum likelihood over whole sessions, stopped early on people held out."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from recloop.features import Catalogue, Steps
from recloop.market.user_model import Response, Start, UserModel
from recloop.settings.params import UserModelParams

CHUNK = 32  # requests of a session that are unrolled at once
HELD_OUT = 0.15
Batch = dict[str, Tensor]


def fit_user_model(
    steps: Steps, catalogue: Catalogue, params: UserModelParams, seed: int, name: str
) -> tuple[UserModel, dict[str, float]]:
    """Fit on logged steps; returns the model and how well it predicts the people held out.

    The figures: log-likelihood per request of choice, extra feedback and leaving, each beside that
    of a constant rate (``..._constant``), and the expected calibration error of click and leaving.

    Raises:
        ValueError: the log holds no positive feedback, so there is no response to fit.
    """
    if not (steps.clicked >= 0).any():
        raise ValueError("the log holds no click: there is no response to learn from")
    torch.manual_seed(seed)
    worth = _worth(steps)
    sessions = _sessions(steps)
    held = np.isin(steps.user, _held_out(steps, seed))
    data = {k: torch.from_numpy(np.ascontiguousarray(v)) for k, v in _arrays(steps, worth).items()}
    model = Response(
        torch.from_numpy(catalogue.features),
        steps.profile.shape[1],
        steps.context.shape[1],
        int(steps.position.max()) + 1,
        params.dim,
    )
    with torch.no_grad():
        rate = float((steps.clicked >= 0).mean())
        places = float((steps.position >= 0).sum(1).mean())
        model.click_bias.fill_(float(np.log(rate / (1 - rate + 1e-6) / places)))
        model.stay[0] = float(np.log((steps.done.mean() + 1e-6) / (1 - steps.done.mean() + 1e-6)))
    is_held = held[sessions[:, 0].numpy()]
    train, test = sessions[torch.from_numpy(~is_held)], sessions[torch.from_numpy(is_held)]
    _optimise(model, data, train, test, params, seed, name)
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    start = Start(*(torch.from_numpy(getattr(steps, k)[first]) for k in ("profile", "context", "history")))
    longest = int(np.bincount(steps.session).max())
    return UserModel(model, start, worth, longest), _figures(model, data, test)


def _worth(steps: Steps) -> tuple[float, float, float]:
    """Reward of a click alone, mean reward of what comes on top, mean reward without a click."""
    clicked = steps.clicked >= 0
    click = float(np.median(steps.reward[clicked])) if clicked.any() else 1.0
    click = min(click, float(steps.reward[clicked].mean()))
    more = steps.reward[clicked] - click
    beyond = float(more[more > 1e-6].mean()) if (more > 1e-6).any() else 0.0
    nothing = float(steps.reward[~clicked].mean()) if (~clicked).any() else 0.0
    return click, beyond, nothing


def _arrays(steps: Steps, worth: tuple[float, float, float]) -> dict[str, np.ndarray]:
    return {
        "profile": steps.profile,
        "context": steps.context,
        "history": steps.history,
        "slate": steps.slate,
        "position": steps.position,
        "clicked": steps.clicked,
        "extra": (steps.clicked >= 0) & (steps.reward > worth[0] + 1e-6),
        "done": steps.done,
    }


def _sessions(steps: Steps) -> Tensor:
    """int64 (S, CHUNK): row numbers of each session's requests, in order, padded with -1."""
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    lengths = np.diff(np.append(first, len(steps)))
    starts = np.concatenate([np.arange(f, f + n, CHUNK) for f, n in zip(first, lengths, strict=True)])
    ends = np.repeat(first + lengths, -(-lengths // CHUNK))
    rows = starts[:, None] + np.arange(CHUNK)
    rows = np.where(rows < ends[:, None], rows, -1)
    return torch.from_numpy(rows[:, : max(1, int((rows >= 0).sum(1).max()))])


def _held_out(steps: Steps, seed: int) -> np.ndarray:
    people = np.unique(steps.user)
    drawn = np.random.default_rng([seed, 3]).permutation(people)
    return drawn[: max(1, int(HELD_OUT * len(people)))]


def _terms(model: Response, data: Batch, sessions: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Per kind of behaviour: logits and what was seen, over all requests of these sessions."""
    real = sessions >= 0
    rows = sessions[real]
    items = model.items()
    liking, extra = model.people({k: data[k][rows] for k in ("profile", "context", "history")}, items)
    slate, clicked = data["slate"][rows], data["clicked"][rows]
    utilities = model.utilities(liking, items, slate, data["position"][rows])
    choice = torch.cat([torch.zeros_like(utilities[:, :1]), utilities], 1)
    has = clicked >= 0
    item = slate.gather(1, clicked.clamp(min=0)[:, None])[:, 0].clamp(max=len(items) - 1)
    more = model.extra_logit(extra[has], items, item[has])
    item_of, click_of = torch.zeros_like(sessions), torch.zeros_like(real)
    item_of[real], click_of[real] = item, has
    feeling = torch.zeros(len(sessions))
    felt = []
    for t in range(sessions.shape[1]):
        feeling = model.feel(feeling, item_of[:, t], click_of[:, t])
        felt.append(feeling)
    leave = model.leave_logit(torch.stack(felt, 1)[real])
    return {
        "choice": (choice, clicked + 1),
        "extra": (more, data["extra"][rows][has].float()),
        "leave": (leave, data["done"][rows].float()),
    }


def _losses(terms: dict[str, tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    losses = {}
    for name, (logit, seen) in terms.items():
        loss: Callable = (
            functional.cross_entropy if name == "choice" else functional.binary_cross_entropy_with_logits
        )
        losses[name] = loss(logit, seen) if len(seen) else torch.zeros(())
    return losses


def _optimise(
    model: Response, data: Batch, train: Tensor, test: Tensor, params: UserModelParams, seed: int, name: str
) -> None:
    decayed = [model.item_id.weight, model.item_bias.weight]
    others = [p for p in model.parameters() if not any(p is d for d in decayed)]
    optimiser = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.01}],
        lr=params.learning_rate,
    )
    generator = torch.Generator().manual_seed(seed)
    per_batch = max(1, params.batch // max(1, int((train >= 0).sum() / len(train))))
    best, kept = float("inf"), {k: v.clone() for k, v in model.state_dict().items()}
    bar = tqdm(range(params.epochs), desc=f"user model {name}", unit="epoch", mininterval=1)
    for _ in bar:
        for part in torch.randperm(len(train), generator=generator).split(per_batch):
            losses = _losses(_terms(model, data, train[part]))
            loss: Tensor = losses["choice"] + losses["extra"] + losses["leave"]
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            now = float(sum(_losses(_terms(model, data, test)).values()))
        bar.set_postfix(loss=f"{now:.3f}")
        if now < best:
            best, kept = now, {k: v.clone() for k, v in model.state_dict().items()}
    model.load_state_dict(kept)


@torch.no_grad()
def _figures(model: Response, data: Batch, sessions: Tensor) -> dict[str, float]:
    terms = _terms(model, data, sessions)
    figures = {f"{name}_loglik": -float(loss) for name, loss in _losses(terms).items()}
    for name, (logit, seen) in terms.items():
        if name == "choice":
            rates = torch.bincount(seen, minlength=logit.shape[1]).float() / max(1, len(seen))
            figures["choice_constant"] = float((rates * rates.clamp(min=1e-12).log()).sum())
            click = 1 - logit.softmax(1)[:, 0]
            figures["click_calibration_error"] = calibration_error(click, (seen > 0).float())
        elif len(seen):
            rate = seen.mean().clamp(1e-6, 1 - 1e-6)
            figures[f"{name}_constant"] = float(rate * rate.log() + (1 - rate) * (1 - rate).log())
            figures[f"{name}_calibration_error"] = calibration_error(logit.sigmoid(), seen)
    return figures


def calibration_error(predicted: Tensor, seen: Tensor, bins: int = 10) -> float:
    """Expected calibration error over equally filled bins (Naeini et al. 2015, section 2)."""
    order = predicted.argsort()
    parts = zip(predicted[order].chunk(bins), seen[order].chunk(bins), strict=True)
    return float(sum(len(p) * (p.mean() - s.mean()).abs() for p, s in parts) / max(1, len(seen)))

"""A log as cases of the likelihood: what a user model is fitted on, and judged by."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.features import Steps
from recloop.market.response import Response

LONGEST = 50  # requests after which a simulated person is sent home, whatever the log holds
CHUNK = 32  # requests of a session that are unrolled at once
Batch = dict[str, Tensor]
Terms = dict[str, tuple[Tensor, Tensor]]  # per kind of behaviour: logits, and what was seen


def weights(propensity: np.ndarray, shown: np.ndarray, clip: float) -> np.ndarray:
    """float32 (R,): how much each request's choice counts, so that slates count as if shown more evenly.

    The inverse of the slate's propensity, which is the product of its items', to the power of one over
    its length (all of it would leave a handful of requests to fit on), divided by the mean, clipped to
    [1 / clip, clip] and divided by the mean again (self-normalised and clipped inverse propensities:
    Swaminathan and Joachims 2015, "The self-normalized estimator for counterfactual learning"). A
    request with an unknown or impossible propensity (NaN, below 0, 0, above 1) counts 1.

    Args:
        propensity: float64 (R, K), of each item given those above it.
        shown: bool (R, K), false where padding.
        clip: largest weight relative to the mean; 1 lets all requests count alike.
    """
    fine = (propensity > 0) & (propensity <= 1)
    known = (fine | ~shown).all(1) & shown.any(1)
    surprise = -np.log(np.where(fine, propensity, 1)).sum(1, where=shown) / np.maximum(shown.sum(1), 1)
    weight = np.ones(len(propensity))
    if known.any():
        tempered = np.exp(surprise[known] - surprise[known].max())
        tempered = np.clip(tempered / tempered.mean(), 1 / clip, clip)
        weight[known] = tempered / tempered.mean()
    return weight.astype(np.float32)


class Choosing:
    """Choice and extra feedback: requests are independent cases, given what was observed."""

    def __init__(self, model: Response, data: Batch, is_held: np.ndarray) -> None:
        self.model, self.data = model, data
        self.train = torch.from_numpy(np.flatnonzero(~is_held))
        self.held = torch.from_numpy(np.flatnonzero(is_held))
        self.parameters = {n: p for n, p in model.named_parameters() if not n.startswith("leaving.")}

    def batches(self, size: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """The cases to fit on, shuffled."""
        return self.train[torch.randperm(len(self.train), generator=generator)].split(size)

    def terms(self, rows: Tensor) -> Terms:
        """``choice`` (place + 1, 0 for none) and, where something was chosen, ``extra``."""
        model, data = self.model, self.data
        items, traits = model.items(), model.traits()
        liking, extra = model.people({k: data[k][rows] for k in ("profile", "context", "history")}, items)
        slate, clicked = data["slate"][rows], data["clicked"][rows]
        utilities = model.utilities(liking, items, slate, data["position"][rows], traits)
        choice = torch.cat([torch.zeros_like(utilities[:, :1]), utilities], 1)
        has = clicked >= 0
        item = slate.gather(1, clicked.clamp(min=0)[:, None])[:, 0]
        more = model.extra_logit(extra[has], items, item[has], traits)
        return {
            "choice": (choice, clicked + 1),
            "extra": (more, data["extra"][rows][has].float()),
        }

    def losses(self, rows: Tensor) -> dict[str, Tensor]:
        """See ``losses``; choices are weighted."""
        return losses(self.terms(rows), self.data["weight"][rows])


class Leaving:
    """Leaving: a piece of a session at a time, whose requests are unrolled in order.

    The last request of the longest sessions is no case: nobody could have stayed, and those who come so
    far are the happiest, so that to count them as leaving would blame what they liked.
    """

    def __init__(self, model: Response, data: Batch, steps: Steps, is_held: np.ndarray) -> None:
        self.model = model
        pieces = sessions(steps)
        held = torch.from_numpy(is_held)[pieces[:, 0]]
        self.train, self.held = pieces[~held], pieces[held]
        self.parameters = {n: p for n, p in model.named_parameters() if n.startswith("leaving.")}
        self.initial, self.user = copied(self.parameters), torch.from_numpy(steps.user)
        clicked = data["clicked"]
        item = data["slate"].gather(1, clicked.clamp(min=0)[:, None])[:, 0]
        self.item, self.clicked = item.clamp(max=len(model.features) - 1), clicked >= 0
        self.done = data["done"].float()
        number = request_numbers(steps)
        self.free = torch.from_numpy(number < min(LONGEST, int(number.max())))

    def terms(self, pieces: Tensor) -> Terms:
        """``leave``: after each request."""
        leaving, rows = self.model.leaving, pieces.clamp(min=0)
        cases = self.cases(pieces)
        moved = leaving.moved(self.model.effects(), self.item[rows], self.clicked[rows])
        feeling, felt = torch.zeros(len(pieces)), []
        for t in range(pieces.shape[1]):
            feeling = leaving.feel(feeling, moved[:, t])
            felt.append(feeling)
        logit = leaving.logit(torch.stack(felt, 1)[cases])
        return {"leave": (logit, self.done[pieces[cases]])}

    def cases(self, pieces: Tensor) -> Tensor:
        """bool (S, L): where somebody could stay or leave."""
        return (pieces >= 0) & self.free[pieces.clamp(min=0)]

    def losses(self, pieces: Tensor) -> dict[str, Tensor]:
        """See ``losses``."""
        return losses(self.terms(pieces))


def request_numbers(steps: Steps) -> np.ndarray:
    """int64 (R,): each request's number within its session, from 1 on."""
    first = np.append(True, steps.session[1:] != steps.session[:-1])
    rows = np.arange(len(steps))
    return rows - np.maximum.accumulate(np.where(first, rows, 0)) + 1


def sessions(steps: Steps) -> Tensor:
    """int64 (S, CHUNK): row numbers of each session's requests, in order, padded with -1."""
    first = np.flatnonzero(np.append(True, steps.session[1:] != steps.session[:-1]))
    lengths = np.diff(np.append(first, len(steps)))
    starts = np.concatenate([np.arange(f, f + n, CHUNK) for f, n in zip(first, lengths, strict=True)])
    ends = np.repeat(first + lengths, -(-lengths // CHUNK))
    rows = starts[:, None] + np.arange(CHUNK)
    rows = np.where(rows < ends[:, None], rows, -1)
    return torch.from_numpy(rows[:, : max(1, int((rows >= 0).sum(1).max()))])


def losses(terms: Terms, weight: Tensor | None = None) -> dict[str, Tensor]:
    """Mean negative log-likelihood per case of each kind of behaviour; ``weight`` is of the choices."""
    found = {}
    for name, (logit, seen) in terms.items():
        if not len(seen):
            found[name] = torch.zeros(())
        elif name != "choice":
            found[name] = functional.binary_cross_entropy_with_logits(logit, seen)
        else:
            loss = functional.cross_entropy(logit, seen, reduction="none")
            found[name] = (loss if weight is None else loss * weight).mean()
    return found


def copied(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The values as they are now."""
    return {name: p.detach().clone() for name, p in parameters.items()}


@torch.no_grad()
def restore(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    """Give the parameters these values."""
    for name, p in parameters.items():
        p.copy_(values[name])

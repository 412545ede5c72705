"""How a user model's parameters are found: maximum a posteriori.

Choice and extra feedback by AdamW, stopped early by people held out. Leaving, which has few parameters
and much noise, by L-BFGS, with the width of the prior on what an item has of its own chosen by
cross-validation over people: empirical Bayes by predictive likelihood.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from recloop.market.likelihood import Choosing, Leaving, copied, restore
from recloop.market.response import KEEP
from recloop.settings.params import UserModelParams

PATIENCE = 6  # epochs without a better held-out likelihood
DECAY = 1.0  # weight decay of the maps of choosing, by AdamW
# Standard deviations of the Gaussian priors on what an item has of its own when it is chosen.
PRIORS = {"item_own": 0.1, "trait_own": 0.5}
# The same of leaving: of the map, of what an item has of its own (one of these), of the log-odds of d.
MAP, WIDTHS, MEMORY = 0.1, (0.5, 0.2, 0.1, 0.05, 0.02), 0.5
FOLDS = 4
ITERATIONS = 60  # of L-BFGS
PIECES = 20_000  # sessions whose graph is held at once


def fit_choosing(part: Choosing, params: UserModelParams, seed: int, title: str) -> None:
    """Fit choice and extra feedback; keeps the epoch of the best held-out likelihood."""
    own = {name: p for name, p in part.parameters.items() if name in PRIORS}
    maps = [p for name, p in part.parameters.items() if name not in PRIORS]
    groups = [
        {"params": list(own.values()), "weight_decay": 0.0},
        {"params": maps, "weight_decay": DECAY},
    ]
    optimiser = torch.optim.AdamW(groups, lr=params.learning_rate)
    generator = torch.Generator().manual_seed(seed)
    best, since, kept = _held_out_loss(part), 0, copied(part.parameters)
    with tqdm(total=params.epochs, desc=title, unit="epoch", mininterval=1) as bar:
        for _ in range(params.epochs):
            for batch in part.batches(params.batch, generator):
                prior = sum(
                    (p.square().sum() / PRIORS[name] ** 2 for name, p in own.items()), torch.zeros(())
                )
                loss = sum(part.losses(batch).values(), 0.5 * prior / len(part.train))
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            now = _held_out_loss(part)
            bar.set_postfix(loss=f"{now:.3f}", refresh=False)
            bar.update()
            since += 1
            if now < best:
                best, since, kept = now, 0, copied(part.parameters)
            if since == PATIENCE:
                break
    restore(part.parameters, kept)


@torch.no_grad()
def _held_out_loss(part: Choosing) -> float:
    return float(sum(part.losses(part.held).values()))


def fit_leaving(part: Leaving, seed: int, title: str) -> None:
    """Fit leaving, with the width of the prior that predicts other people best; a constant if that does."""
    if not part.cases(part.train).any():
        return
    people = part.user[part.train[:, 0]]
    fold_of = np.random.default_rng([seed, 4]).integers(0, FOLDS, int(people.max()) + 1)
    fold = torch.from_numpy(fold_of)[people]
    widths: tuple[float | None, ...] = (*WIDTHS, None)
    best, chosen = float("inf"), widths[-1]
    with tqdm(widths, desc=title, unit="prior", mininterval=1) as bar:
        for width in bar:
            loss = 0.0
            for out in range(FOLDS):
                _solve(part, part.train[fold != out], width)
                with torch.no_grad():
                    loss += float(sum(_nats(part, part.train[fold == out]), torch.zeros(())))
            bar.set_postfix(nats=f"{loss:.1f}", refresh=False)
            if loss < best:
                best, chosen = loss, width
    _solve(part, part.train, chosen)


def _solve(part: Leaving, pieces: Tensor, width: float | None) -> None:
    """From nothing to the maximum a posteriori, over all these sessions; no width: the constant rate."""
    leaving, initial = part.model.leaving, part.initial
    rate = float(part.done[pieces[part.cases(pieces)]].mean().nan_to_num(0.5).clamp(1e-3, 1 - 1e-3))
    restore(part.parameters, initial | {"leaving.base": torch.tensor(rate).logit()})
    if width is None:
        return
    optimiser = torch.optim.LBFGS(
        part.parameters.values(), max_iter=ITERATIONS, history_size=10, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        total = torch.zeros(())
        for loss in _nats(part, pieces):
            loss.backward()
            total += loss.detach()
        spread = (
            (leaving.lasting_map.weight, MAP),
            (leaving.lasting_own, width),
            (leaving.keep - KEEP, MEMORY),
        )
        prior = 0.5 * sum((x.square().sum() / sd**2 for x, sd in spread), torch.zeros(()))
        prior.backward()
        return total + prior.detach()

    optimiser.step(closure)


def _nats(part: Leaving, pieces: Tensor) -> Iterator[Tensor]:
    """The negative log-likelihood, some sessions at a time."""
    for some in pieces.split(PIECES):
        cases = part.cases(some).sum()
        if cases:
            yield part.losses(some)["leave"] * cases

"""What every market does: thousands of people step at once, as tensors."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Observation = dict[str, Tensor]


@dataclass(frozen=True)
class Outcome:
    """What came of one request each.

    Attributes:
        clicked: int64 (B,), place in the slate, -1 for none.
        bought: bool (B,).
        reward: float32 (B,), in the units of params.yaml's ``reward``.
        done: bool (B,), the person left.
    """

    clicked: Tensor
    bought: Tensor
    reward: Tensor
    done: Tensor


class Market(Protocol):
    """B people who are shown slates of item indices and react.

    Item N, and an item that cannot be had, is an empty place of a slate: it is never chosen.

    A person who left stays in the batch, and means nothing, until ``arrive`` puts another in the
    place: so two policies that are run from the same seed meet the same luck, person by person.
    """

    n_items: int

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""

    def reset(self, count: int) -> Observation:
        """``count`` people arrive."""

    def observe(self) -> Observation:
        """``profile`` float32 (B, P), ``context`` float32 (B, C), ``history`` int64 (B, H).

        Where only some items can be shown, ``candidates`` int64 (B, n) names them.
        """

    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates."""

    def arrive(self, gone: Tensor) -> None:
        """Replace the people where bool (B,) ``gone`` holds."""


def choose(utility: Tensor, generator: torch.Generator) -> Tensor:
    """int64 (B,): a draw from the multinomial logit over float (B, k) utilities and "none" at 0.

    Returns the place chosen, -1 for none (McFadden 1974, "Conditional logit analysis of qualitative
    choice behavior", eq. 12; drawn by the Gumbel-max trick).
    """
    with_none = torch.cat([torch.zeros_like(utility[:, :1]), utility], 1)
    noise = torch.rand(with_none.shape, generator=generator, device=utility.device)  # in [0, 1)
    return (with_none - noise.log_().neg_().log_()).argmax(1) - 1


def happens(logit: Tensor, generator: torch.Generator) -> Tensor:
    """bool (B,): independent events with the given log-odds."""
    return torch.rand(logit.shape, generator=generator, device=logit.device) < logit.sigmoid()


def push(history: Tensor, item: Tensor, when: Tensor) -> Tensor:
    """int64 (B, H): ``item`` put in front where bool (B,) ``when`` holds."""
    moved = torch.cat([item[:, None], history[:, :-1]], 1)
    return torch.where(when[:, None], moved, history)

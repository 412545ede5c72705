"""Slates drawn without replacement by logits (Plackett 1975; Luce 1959), with their log-probabilities."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

NEVER = -1e5  # logit of what may not be shown: a share of 0; finite, so that gradients are


def draw(logits: Tensor, k: int, luck: torch.Generator) -> Tensor:
    """int64 (B, k): places in float (B, n) ``logits``, in the order drawn.

    One item by inverting the distribution, several as the k largest Gumbel-perturbed logits (Kool et al.
    2019, arXiv 1903.06059, section 2.3).
    """
    return _invert(logits.softmax(1), luck) if k == 1 else _perturb(logits, k, luck)


def sample(logits: Tensor, k: int, luck: torch.Generator) -> tuple[Tensor, Tensor]:
    """As ``draw``, with the slates' log-probabilities, float (B,)."""
    share, level = _normalised(logits)
    places = _invert(share, luck) if k == 1 else _perturb(logits, k, luck)
    picked = logits.gather(1, places) - level
    return places, (picked - _log_left(share, picked, places)).sum(1)


def _normalised(logits: Tensor) -> tuple[Tensor, Tensor]:
    """float (B, n) shares, and float (B, 1), which taken from the logits leaves their logarithms."""
    share = logits.softmax(1)
    return share, logits.amax(1, keepdim=True) - share.amax(1, keepdim=True).log()


def _log_left(share: Tensor, picked: Tensor, places: Tensor) -> Tensor:
    """float (B, k): log of the share that is left before each pick, from the last pick backwards."""
    left = torch.zeros_like(picked)
    if places.shape[1] > 1:
        log_left = share.scatter(1, places, 0).sum(1).log()
        for j in range(places.shape[1] - 1, 0, -1):
            log_left = torch.logaddexp(log_left, picked[:, j])
            left[:, j] = log_left
    return left


def _invert(share: Tensor, luck: torch.Generator) -> Tensor:
    mass = share.cumsum(1)
    level = torch.rand(len(share), 1, generator=luck, device=share.device) * mass[:, -1:]
    return torch.searchsorted(mass, level, right=True).clamp(max=share.shape[1] - 1)


def _perturb(logits: Tensor, k: int, luck: torch.Generator) -> Tensor:
    noise = torch.rand(logits.shape, generator=luck, device=logits.device)
    return (logits - noise.log_().neg_().log_()).topk(k, 1).indices


def log_probability(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Of slates int64 (B, k) by float (B, n) ``scores``: their log-probability, and the first pick's entropy.

    Both float (B,), and differentiable once.
    """
    return _Slate.apply(scores, places)


class _Slate(torch.autograd.Function):
    """In closed form, which takes a third to four fifths of autograd's time.

    With p = softmax(s), l = log p and R_j the share that is left before the j-th pick a_j,

        log P = sum_j l_{a_j} - log R_j,   d log P / d s_i = sum_j 1[i = a_j] - p_i sum_{j: i is left} 1 / R_j
        H = - sum_i p_i l_i,               d H / d s_i = - p_i (l_i + H)

    R is summed from the last pick backwards, which cannot cancel. Shares below float32's least, e^-87, count
    as 0; a policy that is so sure that less than e^-70 is left gets a smaller gradient, not one that is no
    number.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        share, level = _normalised(scores)
        picked = scores.gather(1, places) - level
        left = _log_left(share, picked, places)
        entropy = level[:, 0] - (share * scores).sum(1)
        ctx.save_for_backward(scores, share, places, left, level[:, 0], entropy)
        return (picked - left).sum(1), entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_slate: Tensor, by_entropy: Tensor) -> tuple[Tensor, None]:
        scores, share, places, left, level, entropy = ctx.saved_tensors
        until = left.clamp(min=-70).neg().exp().cumsum(1)
        shared = by_slate * until[:, -1] + by_entropy * (entropy - level)
        found = (scores * -by_entropy[:, None]).sub_(shared[:, None]).mul_(share)
        own = 1 + share.gather(1, places) * (until[:, -1:] - until)
        return found.scatter_add_(1, places, by_slate[:, None] * own), None

"""Slates drawn without replacement by logits (Plackett 1975; Luce 1959), with their log-probabilities."""

import torch
from torch import Tensor

NEVER = -1e9  # logit of what may not be shown; finite, so that gradients are


def draw(logits: Tensor, k: int, luck: torch.Generator) -> Tensor:
    """int64 (B, k): places in float (B, n) ``logits``, in the order drawn.

    One item by inverting the distribution, several as the k largest Gumbel-perturbed logits (Kool et al.
    2019, arXiv 1903.06059, section 2.3).
    """
    if k == 1:
        mass = logits.softmax(1).cumsum(1)
        level = torch.rand(len(logits), 1, generator=luck, device=logits.device) * mass[:, -1:]
        return torch.searchsorted(mass, level, right=True).clamp(max=logits.shape[1] - 1)
    noise = torch.rand(logits.shape, generator=luck, device=logits.device)
    return (logits - noise.log_().neg_().log_()).topk(k, 1).indices


def log_probability(logits: Tensor, places: Tensor) -> Tensor:
    """float32 (B,): of slates int64 (B, k), differentiable."""
    return log_share_of(logits.log_softmax(1), places)


def log_share_of(log_share: Tensor, places: Tensor) -> Tensor:
    """``log_probability`` from float32 (B, n) logits that are normalised: the logs of shares.

    What is left before a pick is summed from the last pick backwards, which cannot cancel; before the first
    all is left.
    """
    picked = log_share.gather(1, places)
    total = picked[:, 0]
    if places.shape[1] == 1:
        return total
    left = log_share.scatter(1, places, NEVER).logsumexp(1)
    for j in range(places.shape[1] - 1, 0, -1):
        left = torch.logaddexp(left, picked[:, j])
        total = total + picked[:, j] - left
    return total

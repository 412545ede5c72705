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
    """float32 (B,): of slates int64 (B, k), differentiable.

    What is left before a pick is summed from the last pick backwards, which cannot cancel.
    """
    picked = logits.gather(1, places)
    if places.shape[1] == 1:
        return (picked - logits.logsumexp(1, keepdim=True))[:, 0]
    left = logits.scatter(1, places, NEVER).logsumexp(1)
    total = torch.zeros_like(left)
    for j in range(places.shape[1] - 1, -1, -1):
        left = torch.logaddexp(left, picked[:, j])
        total = total + picked[:, j] - left
    return total

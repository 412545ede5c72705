"""Modules that learn from logged requests: a policy's log-probability of single items, and more."""

import math
from typing import Any

import torch
from torch import Tensor

from recloop.agents.actor_critic import ActorCritic
from recloop.agents.module import MarketModule
from recloop.agents.plackett_luce import NEVER


def log_share(scores: Tensor, item: Tensor, own: Tensor, items: int) -> Tensor:
    """float32 (B,): log of the softmax over ``items`` items, at int64 (B, 1) ``item``.

    ``own`` float32 (B, 1) is what it scores, which ``scores`` need not hold.

    Where ``scores`` (B, n) are of n < items drawn uniformly, the sum over the others is estimated by
    (items - 1) / n times the sum over those: the sampled softmax with its correction (Bengio and Senecal
    2008, "Adaptive importance sampling to accelerate training of a neural probabilistic language model").
    """
    if scores.shape[1] == items:
        return scores.log_softmax(1).gather(1, item)[:, 0]
    rest = scores.logsumexp(1) + math.log((items - 1) / scores.shape[1])
    return own[:, 0] - torch.logaddexp(own[:, 0], rest)


class LoggedPolicy(ActorCritic):
    """Policy and critic of single items; rows have ``item`` int64 (B,)."""

    def _forward_train(self, batch: dict[str, Any], **_: Any) -> dict[str, Any]:
        state, item = self.net.state(batch), batch["item"][:, None]
        offered = batch.get("candidates")
        scores = self.net.scores(state, offered)
        own = scores.gather(1, item) if offered is None else self.net.scores(state, item)
        share = log_share(passed_over(self, scores, batch), item, own, self.n_items)
        return {"log_probability": share, "value": self.net.value(state), "state": state}


def passed_over(module: MarketModule, scores: Tensor, batch: dict[str, Any]) -> Tensor:
    """float32 (B, n): with what the log never shows left out of the softmax.

    Nobody passed such an item over, so that nothing is learnt against it: its features alone judge it.
    """
    able = module.choosable(batch)
    return scores if able is None else scores.masked_fill(~able, NEVER)


def capped(advantage: Tensor, weight: float, cap: float) -> Tensor:
    """float32 (B,): exp(weight * advantage), ``cap`` at most."""
    return (weight * advantage).clamp(max=math.log(cap)).exp()

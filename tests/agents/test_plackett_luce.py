"""Log-probability of a slate and entropy in closed form, beside their definitions under autograd."""

import math

import pytest
import torch
from torch import Tensor

from recloop.agents.plackett_luce import NEVER, log_probability


def by_definition(scores: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    log_share, total = scores.log_softmax(1), torch.zeros(len(scores), dtype=scores.dtype)
    left = scores
    for place in places.T:
        total = total + left.log_softmax(1).gather(1, place[:, None])[:, 0]
        left = left.scatter(1, place[:, None], -torch.inf)
    return total, -(log_share.exp() * log_share).sum(1)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
def test_values_and_gradients_are_those_of_the_definition(k, spread):
    torch.manual_seed(k)
    scores = (spread * torch.randn(64, 20, dtype=torch.float64)).requires_grad_()
    places = torch.rand(64, 20).topk(k, 1).indices
    weight = torch.randn(2, 64, dtype=torch.float64)
    answers = []
    for form in (log_probability, by_definition):
        chance, entropy = form(scores, places)
        (gradient,) = torch.autograd.grad((weight[0] * chance + weight[1] * entropy).sum(), scores)
        answers.append((chance, entropy, gradient))
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_what_may_not_be_shown_and_a_policy_that_is_sure_stay_finite():
    scores = torch.tensor(
        [[0.0, 1.0, NEVER], [NEVER, NEVER, NEVER], [300.0, 0.0, -300.0]], requires_grad=True
    )
    places = torch.tensor([[0, 1], [0, 2], [2, 0]])
    chance, entropy = log_probability(scores, places)
    (chance + entropy).sum().backward()
    assert torch.isfinite(chance).all()
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[0, 2] == 0
    assert float(entropy[1].detach()) == pytest.approx(math.log(3), abs=0.02)


def test_scores_that_all_lie_far_off_give_the_same():
    scores, places = torch.randn(8, 5), torch.tensor([[0, 3]] * 8)
    for near, far in zip(
        log_probability(scores, places), log_probability(scores + 4096, places), strict=True
    ):
        torch.testing.assert_close(near, far, rtol=0, atol=2e-3)

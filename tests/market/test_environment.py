"""One person as a Gymnasium environment: what Gymnasium asks for, and the batched market's own steps."""

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from recloop.features import FeatureSpec
from recloop.market import GroundTruth, Market, SinglePerson, UserModel
from recloop.market.response import Response
from recloop.market.user_model import Start


@pytest.fixture(params=["ground truth", "user model"])
def single(request: pytest.FixtureRequest, market: GroundTruth) -> Market:
    if request.param == "ground truth":
        return market
    torch.manual_seed(1)
    spec = market._spec
    assert isinstance(spec, FeatureSpec)
    response = Response(torch.rand(30, 4), spec.profile_size, spec.context_size, 4, 6)
    starts = market.reset(50)
    return UserModel(response, Start(**starts), (1.0, 4.0, 0.0), 9)


def test_gymnasium_accepts_it(single: Market) -> None:
    check_env(SinglePerson(single, slate=4), skip_render_check=True)


def test_it_steps_as_the_batched_market_does(single: Market) -> None:
    environment, rng = SinglePerson(single, slate=4), np.random.default_rng(5)
    slates = [rng.permutation(30)[:4] for _ in range(40)]
    for seed in (1, 2):
        seen, _ = environment.reset(seed=seed)
        alone = [seen]
        for slate in slates:
            *step, info = environment.step(slate)
            alone.append((*step, info))
            if step[2]:
                break
        single.seed(seed)
        batched = single.reset(1)
        assert all(np.array_equal(alone[0][name], batched[name][0].numpy()) for name in batched)
        for slate, (seen, reward, terminated, truncated, info) in zip(slates, alone[1:], strict=False):
            outcome = single.step(torch.from_numpy(slate)[None])
            assert (reward, terminated, truncated) == (float(outcome.reward), bool(outcome.done), False)
            assert info == {"clicked": int(outcome.clicked), "bought": bool(outcome.bought)}
            observation = single.observe()
            assert all(np.array_equal(seen[name], observation[name][0].numpy()) for name in observation)
        assert alone[-1][2], "every session ends"

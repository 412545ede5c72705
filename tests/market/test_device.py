"""The same code on a GPU: nothing in the hot path waits for a number, and no random draw leaves it."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from recloop.features import FeatureSpec
from recloop.market import GroundTruth, InterestEvolution, KuaiEnv, Market, UserModel
from recloop.market.kuai_env import KuaiData
from recloop.market.response import Response
from recloop.market.user_model import Start
from tests.market.small import PARAMS, REWARD, make_spec

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "item")


class NoWaiting(TorchDispatchMode):
    """Notes every operation that would stall a GPU until its number or its shape is known."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in WAITS or masks:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def markets(device: str) -> Iterator[Market]:
    truth = GroundTruth(PARAMS, REWARD, seed=3, spec=make_spec(PARAMS.items), device=device)
    yield truth
    torch.manual_seed(1)
    spec = truth._spec
    assert isinstance(spec, FeatureSpec)
    response = Response(torch.rand(30, 4), spec.profile_size, spec.context_size, 4, 6)
    starts = {name: x.cpu() for name, x in truth.reset(50).items()}
    yield UserModel(response, Start(**starts), (1.0, 4.0, 0.0), 9, device)
    yield InterestEvolution(seed=1, items=30, device=device)
    ratio = torch.rand(5, 30, generator=torch.Generator().manual_seed(1)).numpy()
    ids = torch.arange(30).numpy()
    yield KuaiEnv(KuaiData(ratio, ratio[:3].T > 0.5, ids[:5], ids), seed=1, device=device)


def live(market: Market, count: int, steps: int) -> list[torch.Tensor]:
    """What comes of some steps: rewards, and who is gone."""
    width = 1 if isinstance(market, KuaiEnv) else 4
    found = []
    for step in range(steps):
        slates = (torch.arange(count)[:, None] + step + torch.arange(width)) % market.n_items
        outcome = market.step(slates)
        market.arrive(outcome.done)
        found += [outcome.reward, outcome.done, *market.observe().values()]
    return found


@pytest.mark.parametrize("which", range(4), ids=["truth", "user model", "interest evolution", "kuai"])
def test_nothing_waits_for_a_number(which: int, monkeypatch: pytest.MonkeyPatch) -> None:
    market = list(markets("cpu"))[which]
    market.reset(20)
    monkeypatch.setattr(type(market), "_shown", lambda self, slates, people: slates)  # looks on the CPU only
    for name in ("tolist", "cpu", "numpy"):
        monkeypatch.setattr(torch.Tensor, name, leaves_the_device)
    with NoWaiting() as seen:
        live(market, 20, 3)
    assert seen.found == []


def leaves_the_device(*_: Any, **__: Any) -> None:
    raise AssertionError("the hot path leaves the device")


def test_the_watch_notices_what_would_wait() -> None:
    x = torch.arange(3)
    with NoWaiting() as seen:
        float(x.sum())
        x[x > 1]
        x.nonzero()
    assert len(seen.found) == 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
@pytest.mark.parametrize("which", range(4), ids=["truth", "user model", "interest evolution", "kuai"])
def test_a_gpu_tells_the_same_story(which: int) -> None:
    """Random numbers differ, so the law is compared: mean reward and share of leavings."""
    means = []
    for device in ("cpu", "cuda"):
        market = list(markets(device))[which]
        market.seed(1)
        market.reset(50_000)
        found = live(market, 50_000, 4)
        assert all(x.device.type == device for x in found)
        stride = 2 + len(market.observe())
        means.append([float(torch.stack(found[i::stride]).double().mean()) for i in (0, 1)])
    assert means[0] == pytest.approx(means[1], rel=0.02, abs=0.003)

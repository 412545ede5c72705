"""Moments on the device are those of the specification, to the last bit."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.features import FeatureSpec
from recloop.market.moment import Moments
from recloop.market.population import DAY_US, DEVICES


def spec(devices: tuple[str, ...]) -> FeatureSpec:
    return FeatureSpec(
        item_ids=("a",), categories={}, scales={}, devices=devices, history=1, rating_positive=4
    )


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 4 * 10**15), min_size=1, max_size=20),
    st.sampled_from([DEVICES, ("tablet",), ("desktop", "phone", "watch"), ()]),
)
def test_contexts_agree_exactly(ts: list[int], known: tuple[str, ...]) -> None:
    one = spec(known)
    devices = np.arange(len(ts)) % len(DEVICES)
    clock = np.array(ts, np.int64)
    expected = one.contexts([DEVICES[i] for i in devices], clock)
    found = Moments(one, torch.device("cpu")).contexts(torch.from_numpy(devices), torch.from_numpy(clock))
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected)


def test_contexts_agree_exactly_over_a_hundred_thousand_moments() -> None:
    rng = np.random.default_rng(1)
    clock, devices = rng.integers(0, 60 * 366 * DAY_US, 100_000), rng.integers(0, 3, 100_000)
    one = spec(("phone", "tablet"))
    expected = one.contexts([DEVICES[i] for i in devices], clock)
    found = Moments(one, torch.device("cpu")).contexts(torch.from_numpy(devices), torch.from_numpy(clock))
    assert np.array_equal(found.numpy(), expected)

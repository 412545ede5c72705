"""A moment as a policy sees it, without leaving the device."""

import math

import numpy as np
import torch
from torch import Tensor

from recloop.features import FeatureSpec
from recloop.market.population import DAY_US, DEVICES


class Moments:
    """``FeatureSpec.contexts`` as tensors, to the last bit: its own rows serve as tables."""

    def __init__(self, spec: FeatureSpec, device: torch.device) -> None:
        days = np.arange(7, dtype=np.int64) * DAY_US
        week = spec.contexts([DEVICES[0]] * 7, days)[:, 2:4]
        used = spec.contexts(DEVICES, np.zeros(len(DEVICES), np.int64))[:, 4:]
        self._week, self._used = torch.from_numpy(week).to(device), torch.from_numpy(used).to(device)

    def contexts(self, devices: Tensor, ts: Tensor) -> Tensor:
        """float32 (B, C) for indices int64 (B,) into ``DEVICES`` and clocks int64 (B,)."""
        day = (ts % DAY_US).double() / DAY_US * math.tau
        circle = torch.stack([day.sin(), day.cos()], 1).float()
        return torch.cat([circle, self._week[ts // DAY_US % 7], self._used[devices]], 1)

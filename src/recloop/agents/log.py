"""Logged requests as rows to learn from: one per item that was shown."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from recloop.agents.network import Columns
from recloop.features import Steps


class UnusableLogError(ValueError):
    """The log cannot be learnt from; the message says why."""


@dataclass(frozen=True)
class LoggedRows:
    """M shown items of R requests.

    A reward belongs to the item that was acted on; one without such an item is divided among the slate.

    Attributes:
        observations: what the policy saw, (R, ...).
        following: int64 (R,), the next request of the session; itself where ``last``.
        last: bool (R,), the session ended with it.
        request: int64 (M,), row of ``observations``.
        item: int64 (M,).
        reward: float32 (M,), the item's own.
        to_go: float32 (M,), its own reward and the discounted rewards of the rest of the session.
        propensity: float32 (M,), 0 where unknown.
    """

    observations: Columns
    following: Tensor
    last: Tensor
    request: Tensor
    item: Tensor
    reward: Tensor
    to_go: Tensor
    propensity: Tensor

    @classmethod
    def of(cls, steps: Steps, items: int, gamma: float) -> Self:
        """The rows of a split's steps, in a catalogue of ``items``.

        Raises:
            UnusableLogError: nothing was shown, a reward is not finite, or an item that was shown had a
                propensity of 0 or beyond 1.
        """
        row, place = np.nonzero(steps.slate < items)
        if not len(row):
            raise UnusableLogError("the log shows no item at all: collect requests first")
        bad = int((~np.isfinite(steps.reward)).sum())
        if bad:
            raise UnusableLogError(f"{bad} rewards of the log are not finite: validate the data again")
        chance = steps.propensity[row, place]
        wrong = int(((chance <= 0) | (chance > 1)).sum())
        if wrong:
            raise UnusableLogError(
                f"{wrong} of {len(row)} shown items have a propensity of 0 or beyond 1, with which nothing"
                " can be shown: correct the logging policy's propensities, or leave them out where unknown"
            )
        shown = (steps.slate < items).sum(1)
        own = np.where(steps.clicked[row] == place, steps.reward[row], 0)
        own = np.where(steps.clicked[row] < 0, steps.reward[row] / shown[row], own)
        last = np.append(steps.session[1:] != steps.session[:-1], True)
        at = np.arange(len(steps))
        rest = returns(steps.reward, last, gamma) - steps.reward
        return cls(
            {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in steps.observation().items()},
            torch.from_numpy(np.where(last, at, at + 1)),
            torch.from_numpy(last),
            torch.from_numpy(row),
            torch.from_numpy(steps.slate[row, place]),
            torch.from_numpy(own.astype(np.float32)),
            torch.from_numpy((own + rest[row]).astype(np.float32)),
            torch.from_numpy(np.nan_to_num(chance).astype(np.float32)),
        )

    def __len__(self) -> int:
        return len(self.item)

    def to(self, device: torch.device) -> Self:
        """The same rows on this device; these themselves where they are there."""
        if self.item.device == device:
            return self
        columns = {name: x.to(device) for name, x in self.observations.items()}
        rest = {field.name: getattr(self, field.name) for field in fields(self)[1:]}
        return type(self)(columns, **{name: x.to(device) for name, x in rest.items()})

    def shown(self, items: int) -> np.ndarray:
        """bool (items,): what the log shows at all."""
        return self.item.bincount(minlength=items).cpu().numpy() > 0

    def draw(self, count: int, luck: torch.Generator, ahead: bool) -> Columns:
        """Rows drawn uniformly with replacement, with what was seen then and, where ``ahead``, after."""
        at = torch.randint(len(self), (count,), generator=luck).to(self.item.device)
        request = self.request.index_select(0, at)
        own = {name: getattr(self, name) for name in ("item", "reward", "to_go", "propensity")}
        found = _taken(self.observations | {"done": self.last}, request) | _taken(own, at)
        if ahead:
            following = _taken(self.observations, self.following.index_select(0, request))
            found |= {f"next_{name}": x for name, x in following.items()}
        return found


def _taken(columns: Columns, at: Tensor) -> Columns:
    """The rows ``at``; ``x[at]`` would take twice the time."""
    return {name: x.index_select(0, at) for name, x in columns.items()}


def returns(reward: np.ndarray, last: np.ndarray, gamma: float) -> np.ndarray:
    """float (R,): sum_t gamma^t r_t from each request to the last of its session."""
    found = reward.astype(np.float64)
    ends = np.flatnonzero(last)
    left = ends[np.searchsorted(ends, np.arange(len(reward)))] - np.arange(len(reward))
    order = np.argsort(left, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(left[order])) + 1)[1:]:
        found[rows] += gamma * found[rows + 1]
    return found

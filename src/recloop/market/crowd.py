"""People in the places of a batch: what all markets do alike."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from recloop.market.interface import Observation


class Crowd(ABC):
    """B people, each a row of every tensor that ``_arrivals`` names; a base of markets.

    Attributes:
        n_items: N; slates hold 0..N-1, and N where a place is empty.
        device: where the tensors live.
    """

    n_items: int
    device: torch.device

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self, count: int) -> Observation:
        """``count`` people arrive."""
        self._become(self._arrivals(count))
        return self.observe()

    def arrive(self, gone: Tensor) -> None:
        """Replace the people where bool (B,) ``gone`` holds.

        As many numbers are drawn whoever is gone, so that the luck of those to come does not depend on
        what a policy did.
        """
        fresh = self._arrivals(len(gone))
        gone = gone.to(self.device)
        for name, new in fresh.items():
            mask = gone.view(-1, *[1] * (new.dim() - 1))
            fresh[name] = torch.where(mask, new, getattr(self, name))
        self._become(fresh)

    @abstractmethod
    def observe(self) -> Observation:
        """What a policy sees."""

    @abstractmethod
    def _arrivals(self, count: int) -> dict[str, Tensor]:
        """All that is kept of each person, by attribute, of ``count`` people who have just come."""

    def _become(self, state: dict[str, Tensor]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def _shown(self, slates: Tensor, people: int) -> Tensor:
        """The slates on this device.

        Raises:
            ValueError: not a row per person, no place at all, or, on the CPU, an index beyond N.
        """
        if slates.dim() != 2 or len(slates) != people or not slates.shape[1]:
            raise ValueError(
                f"slates must be int64 (B, k) with B = {people} and k at least 1, not {tuple(slates.shape)}:"
                " give every person a row (index N leaves a place empty)"
            )
        if slates.device.type == "cpu" and people:  # looking at a GPU's numbers would stall it
            low, high = (int(x) for x in slates.aminmax())
            if low < 0 or high > self.n_items:
                raise ValueError(
                    f"a slate names item {low if low < 0 else high}; there are {self.n_items} items, and"
                    f" index {self.n_items} leaves a place empty"
                )
        return slates.to(self.device)

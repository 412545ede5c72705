"""Experience replay (Lin 1992) over columns: a ring of tensors, sampled by index."""

from typing import Any

import torch
from torch import Tensor

from recloop.agents.network import Columns

SMALLEST = 1e-3  # added to a priority, so that nothing is forgotten
FIRST_CORRECTION = 0.4  # beta at the start; 1 at the end of training
BLOCK = 64  # priorities under one sum: a draw reads all sums and one block, not the whole memory


class Replay:
    """Keeps the newest ``capacity`` transitions; memory is linear in it.

    With ``exponent`` a above 0 a transition i is drawn with probability p_i^a / sum_j p_j^a and counts
    (n P(i))^-beta, divided by the greatest of its batch (Schaul et al. 2016, arXiv 1511.05952, eq. 1 and
    section 3.4); p_i is its last absolute TD error, and that of a new one the greatest so far.

    All is kept on ``device``; what is drawn is the same on each.
    """

    def __init__(
        self, capacity: int, seed: int, exponent: float = 0.0, device: torch.device | str = "cpu"
    ) -> None:
        self.capacity, self.exponent, self.device = capacity, exponent, torch.device(device)
        self._columns: Columns = {}
        self._next = 0
        self.size = 0
        self._mass = torch.zeros(-(-capacity // BLOCK) * BLOCK, dtype=torch.float64, device=device)
        self._sums = torch.zeros(len(self._mass) // BLOCK, dtype=torch.float64, device=device)
        self._greatest = 1.0
        self._luck = torch.Generator().manual_seed(seed)

    def add(self, columns: Columns) -> None:
        """Add one transition per row; all columns have the same length, at most the capacity."""
        count = len(next(iter(columns.values())))
        if not self._columns:
            self._columns = {
                name: torch.zeros((self.capacity, *x.shape[1:]), dtype=x.dtype, device=self.device)
                for name, x in columns.items()
            }
        places = (self._next + torch.arange(count, device=self.device)) % self.capacity
        for name, x in columns.items():
            self._columns[name].index_copy_(0, places, x.to(self.device))
        self._weigh(places, self._mass.new_full((count,), self._greatest))
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def draw(self, count: int, share: float) -> tuple[Tensor, Columns]:
        """Places, int64 (count,), and their transitions, with replacement; ``weight`` is what each counts.

        ``share`` of the training that is done moves beta from its first value to 1.
        """
        if not self.exponent:
            places = torch.randint(self.size, (count,), generator=self._luck).to(self.device)
            return places, self._rows(places)
        places, total = self._by_priority(count)
        beta = FIRST_CORRECTION + (1 - FIRST_CORRECTION) * min(1.0, share)
        weight = (self.size * self._mass[places] / total) ** -beta
        return places, self._rows(places) | {"weight": (weight / weight.max()).float()}

    def _rows(self, places: Tensor) -> Columns:
        return {name: x.index_select(0, places) for name, x in self._columns.items()}

    def _by_priority(self, count: int) -> tuple[Tensor, Tensor]:
        """Places, int64 (count,), by inverting the distribution: the block first; and the sum of all."""
        sums = self._sums.cumsum(0)
        wanted = torch.rand(count, dtype=torch.float64, generator=self._luck).to(self.device) * sums[-1]
        block = torch.searchsorted(sums, wanted, right=True).clamp(max=(self.size - 1) // BLOCK)
        within = self._blocks(block).cumsum(1)
        left = (wanted - sums[block] + within[:, -1])[:, None]
        place = block * BLOCK + torch.searchsorted(within, left, right=True).clamp(max=BLOCK - 1)[:, 0]
        return place.clamp(max=self.size - 1), sums[-1]

    def _blocks(self, block: Tensor) -> Tensor:
        return self._mass.view(-1, BLOCK).index_select(0, block)

    def _weigh(self, places: Tensor, mass: Tensor) -> None:
        """Set priorities, and sum the blocks they are in anew, so that no rounding adds up."""
        self._mass[places] = mass
        block = places // BLOCK
        self._sums[block] = self._blocks(block).sum(1)

    def note(self, places: Tensor, errors: Tensor) -> None:
        """Remember float (count,) TD errors of what was drawn."""
        mass = (errors.abs().double() + SMALLEST) ** self.exponent
        self._weigh(places, mass)
        self._greatest = max(self._greatest, float(mass.max()))

    def get_state(self) -> dict[str, Any]:
        """What is remembered, and where sampling stands."""
        columns = {name: x[: self.size] for name, x in self._columns.items()}
        kept = {"columns": columns, "next": self._next, "luck": self._luck.get_state()}
        return kept | {"mass": self._mass[: self.size], "greatest": self._greatest}

    def set_state(self, state: dict[str, Any]) -> None:
        """Remember what ``get_state`` gave, as tensors or as arrays."""
        self._columns, self._next, self.size = {}, 0, 0
        if state["columns"]:
            self.add({name: torch.as_tensor(x) for name, x in state["columns"].items()})
        places = torch.arange(self.size, device=self.device)
        self._weigh(places, torch.as_tensor(state["mass"]).to(self.device))
        self._next, self._greatest = state["next"], state["greatest"]
        self._luck.set_state(torch.as_tensor(state["luck"]))

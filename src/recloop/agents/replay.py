"""Experience replay (Lin 1992) over columns: a ring of tensors, sampled by index."""

import torch
from torch import Tensor

Columns = dict[str, Tensor]


class Replay:
    """Keeps the newest ``capacity`` transitions; memory is linear in it."""

    def __init__(self, capacity: int, seed: int) -> None:
        self.capacity = capacity
        self._columns: Columns = {}
        self._next = 0
        self.size = 0
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, columns: Columns) -> None:
        """Add one transition per row; all columns have the same length, at most the capacity."""
        count = len(next(iter(columns.values())))
        if not self._columns:
            self._columns = {
                name: torch.zeros((self.capacity, *x.shape[1:]), dtype=x.dtype) for name, x in columns.items()
            }
        places = (self._next + torch.arange(count)) % self.capacity
        for name, x in columns.items():
            self._columns[name][places] = x
        self._next = (self._next + count) % self.capacity
        self.size = min(self.size + count, self.capacity)

    def sample(self, count: int) -> Columns:
        """Transitions drawn uniformly with replacement."""
        places = torch.randint(self.size, (count,), generator=self._generator)
        return {name: x[places] for name, x in self._columns.items()}

"""Experience replay (Lin 1992) over columns: a ring of tensors, sampled by index."""

from typing import Any

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

    def get_state(self) -> dict[str, Any]:
        """What is remembered, and where sampling stands."""
        columns = {name: x[: self.size] for name, x in self._columns.items()}
        return {"columns": columns, "next": self._next, "luck": self._generator.get_state()}

    def set_state(self, state: dict[str, Any]) -> None:
        """Remember what ``get_state`` gave, as tensors or as arrays."""
        self._columns, self._next, self.size = {}, 0, 0
        if state["columns"]:
            self.add({name: torch.as_tensor(x) for name, x in state["columns"].items()})
        self._next = state["next"]
        self._generator.set_state(torch.as_tensor(state["luck"]))

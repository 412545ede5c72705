"""Tabular Q-learning (Watkins and Dayan 1992, "Q-learning", eq. 1).

    Q(s, a) <- Q(s, a) + alpha (r + gamma max_j Q(s', j) - Q(s, a)),   alpha = 1 / (1 + visits)^0.6

The state is the newest item of the history, or none: N + 1 states. alpha meets the conditions of
convergence (Even-Dar and Mansour 2003, "Learning rates for Q-learning"). Rows of a batch that fall on one
cell count as their mean.
"""

from typing import Any

import torch
from torch import Tensor, nn

from recloop.agents.algorithm import ReplayAlgorithm
from recloop.agents.algorithms.dqn import QModule
from recloop.agents.learner import MarketLearner
from recloop.agents.network import Columns, Shape
from recloop.agents.tables import TableError, alone

CELLS = 50_000_000  # of the table; 200 MB
FORGETTING = 0.6


class Table(nn.Module):
    """Q by newest item, float32 (N + 1, N)."""

    visits: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        count = len(shape.features)
        if count * (count + 1) > CELLS:
            raise TableError(
                f"q_learning keeps a table of {count + 1} x {count} cells, more than {CELLS}: choose an"
                " algorithm with a network, such as dqn, in agent.algorithm"
            )
        self.cells = nn.Parameter(torch.zeros(count + 1, count))
        self.register_buffer("visits", torch.zeros(count + 1, count))

    def q(self, observation: Columns, offered: Tensor | None = None) -> Tensor:
        """float32 (B, n)."""
        found = self.cells[_state(observation["history"], len(self.cells) - 1)]
        if offered is None:
            return found
        place = offered.clamp(max=found.shape[1] - 1)
        return found[:, place] if offered.dim() == 1 else found.gather(1, place)

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N)."""
        return self.q({"history": history})


def _state(history: Tensor, unknown: int) -> Tensor:
    newest = history[:, 0]
    return torch.where((newest >= 0) & (newest < unknown), newest, unknown)


class TableModule(QModule):
    """Epsilon-greedy on the table."""

    net: Any

    def make(self) -> nn.Module:
        """All zero."""
        return Table(self.shape)

    def make_target_networks(self) -> None:
        """None: the table is its own target."""
        self.target = nn.Identity()


class TableLearner(MarketLearner):
    """The update of this module's docstring."""

    def build(self) -> None:
        """Refuse company: tables of several learners would drift apart."""
        super().build()
        alone(self.config.num_learners, "q_learning")

    @torch.no_grad()
    def learn(self, rows: Columns) -> dict[str, Tensor]:
        """Move every visited cell towards its rows' mean target."""
        rows = self.here(rows)
        module = self.plain
        table: Any = module.net
        ahead = {name: rows[f"next_{name}"] for name in ("history", "allowed") if f"next_{name}" in rows}
        if "next_candidates" in rows:
            ahead["candidates"] = rows["next_candidates"]
        best = module.masked(table.q(ahead, ahead.get("candidates")), ahead).amax(1)
        wanted = rows["reward"] + rows["discount"] * best.nan_to_num(neginf=0.0)
        size = table.cells.shape[1]
        cell = _state(rows["history"], size) * size + rows["item"]
        cells, visits = table.cells.view(-1), table.visits.view(-1)
        errors = wanted - cells[cell]
        visited, row = cell.unique(return_inverse=True)  # not the whole table, which may be of millions
        total = torch.zeros(len(visited), device=cells.device).index_add_(0, row, errors)
        cells[visited] += total / row.bincount() / (1 + visits[visited]) ** FORGETTING
        visits[visited] += 1
        return {"loss": errors.square().mean(), "errors": errors}


class QLearning(ReplayAlgorithm):
    """See the docstring of this module."""

    module, learner = TableModule, TableLearner

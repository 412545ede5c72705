"""The two-tower network: what a policy expects of each item, as one inner product."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.agents.history import ENCODERS
from recloop.settings.params import NetworkParams

TABLE = 20_000  # items up to which all vectors are made and looked up, instead of those of the history alone
OBSERVATION = ("profile", "context", "history")
Columns = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """What a network is built for.

    Attributes:
        features: float32 (N, F), the items.
        profile: P.
        context: C.
        history: H.
        available: bool (N,), what may be shown while learning; None: all.
    """

    features: np.ndarray
    profile: int
    context: int
    history: int
    available: np.ndarray | None = None

    def __deepcopy__(self, _: object) -> Self:
        """Itself: nobody changes it, and RLlib copies its configuration some ten times."""
        return self


def _share(available: np.ndarray | None) -> Tensor | None:
    """float32 (N,), of sum 1, over what may be shown; None: all alike."""
    if available is None or available.all() or not available.any():
        return None
    return torch.as_tensor(available / available.sum(), dtype=torch.float32)


class TwoTower(nn.Module):
    """Scores of items by state: <f(s), g(i)> + b_i, and a value of the state, v(s).

    f: profile, context, an encoding of the history and its newest item, through two layers; g: item
    features through a linear map, plus an embedding of the item's id, which starts small, so that an item
    is first judged by its features. As a Q function the network is duelling (Wang et al. 2016, arXiv
    1511.06581, eq. 9): Q(s, i) = v(s) + <f(s), g(i)> + b_i - mean_j (<f(s), g(j)> + b_j).
    """

    features: Tensor
    share: Tensor | None
    searchable = True  # its scores are the inner products of ``query`` and ``item_matrix``

    def __init__(self, shape: Shape, sizes: NetworkParams) -> None:
        super().__init__()
        self.count, width = shape.features.shape
        self.register_buffer("features", torch.as_tensor(shape.features, dtype=torch.float32), False)
        self.register_buffer("share", _share(shape.available), False)
        self.item_map = nn.Linear(width, sizes.dim)
        self.item_id = nn.Embedding(self.count, sizes.dim)
        self.item_bias = nn.Parameter(torch.zeros(self.count))
        self.past = ENCODERS[sizes.history](sizes.dim, shape.history)
        self.tower = nn.Sequential(
            nn.Linear(shape.profile + shape.context + 2 * sizes.dim, sizes.hidden),
            nn.ReLU(),
            nn.Linear(sizes.hidden, sizes.hidden),
            nn.ReLU(),
        )
        self.query_head = nn.Linear(sizes.hidden, sizes.dim)
        self.value_head = nn.Linear(sizes.hidden, 1)
        nn.init.normal_(self.item_id.weight, std=0.1)

    def vectors(self, index: Tensor | None = None) -> Tensor:
        """float32 (..., dim): g of these items, or (N, dim) of all."""
        if index is None:
            return self.item_map(self.features) + self.item_id.weight
        return self.item_map(self.features[index]) + self.item_id(index)

    def look_up(self, index: Tensor) -> Tensor:
        """float32 (..., dim): g of int64 (...,) items, 0 of item N."""
        if self.count > TABLE:
            return self.vectors(index.clamp(max=self.count - 1)) * (index < self.count)[..., None]
        table = functional.pad(self.vectors(), (0, 0, 0, 1))
        return table.index_select(0, index.flatten()).unflatten(0, index.shape)

    def state(self, observation: Columns) -> Tensor:
        """float32 (B, hidden): what f and v are read from."""
        history = observation["history"]
        known = (history >= 0) & (history < self.count)
        seen = self.look_up(torch.where(known, history, self.count))
        past = self.past(seen, known)
        return self.tower(torch.cat([observation["profile"], observation["context"], past, seen[:, 0]], 1))

    def scores(self, state: Tensor, offered: Tensor | None = None) -> Tensor:
        """float32 (B, N), or (B, n) of int64 (n,) or (B, n) ``offered`` items; N among them scores any."""
        return self.match(self.query_head(state), self.item_bias, offered)

    def match(self, query: Tensor, bias: Tensor, offered: Tensor | None = None) -> Tensor:
        """float32 (B, n): <query, g(i)> + bias_i; see ``scores``."""
        if offered is None:
            return torch.addmm(bias, query, self.vectors().T)
        real = offered.clamp(max=self.count - 1)
        if offered.dim() == 1:
            return torch.addmm(bias[real], query, self.vectors(real).T)
        return (self.look_up(offered) * query[:, None]).sum(2) + bias[real]

    def value(self, state: Tensor) -> Tensor:
        """float32 (B,): v."""
        return self.value_head(state)[:, 0]

    def q(self, observation: Columns, offered: Tensor | None = None) -> Tensor:
        """float32 (B, n): Q."""
        return self.q_of(self.state(observation), offered, offered)

    def q_of(self, state: Tensor, item: Tensor | None, offered: Tensor | None) -> Tensor:
        """float32 (B, k): Q of int64 (B, k) items, (n,) items or all, where ``offered`` is on offer."""
        query = self.query_head(state)
        return self.match(query, self.item_bias, item) + self.level(state, query, offered)

    def level(self, state: Tensor, query: Tensor, offered: Tensor | None) -> Tensor:
        """float32 (B, 1): v less the mean over all items, or over those (n,) that are drawn for everyone.

        The mean of inner products is that with the mean vector. Items that are not shown while learning do
        not count: else what all that are shown have in common would go to their own biases, and an item that
        is new would be held to be worse than any of them. What a person is offered by the market does not
        move it, so that an item's Q is the same in any offer.
        """
        drawn = offered if offered is not None and offered.dim() == 1 else None
        vectors, bias = self.vectors(drawn), self.item_bias if drawn is None else self.item_bias[drawn]
        if self.share is None:
            mean = torch.addmv(bias.mean(), query, vectors.mean(0))
        else:
            share = self.share if drawn is None else self.share[drawn]
            share = share / share.sum().clamp(min=1e-9)
            mean = torch.addmv(share @ bias, query, share @ vectors)
        return self.value_head(state) - mean[:, None]

    def query(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, D): its inner products with ``item_matrix()`` are the Q values."""
        state = self.state({"profile": profile, "context": context, "history": history})
        query = self.query_head(state)
        return torch.cat([query, torch.ones_like(query[:, :1]), self.level(state, query, None)], 1)

    def item_matrix(self) -> Tensor:
        """float32 (N, D), D = dim + 2."""
        bias = self.item_bias[:, None]
        return torch.cat([self.vectors(), bias, torch.ones_like(bias)], 1)

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N): Q of all items, from float32 (B, P), float32 (B, C) and int64 (B, H)."""
        return self.q({"profile": profile, "context": context, "history": history})

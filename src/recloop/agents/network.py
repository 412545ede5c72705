"""The two-tower network: what a policy expects of each item, as one inner product."""

import torch
from torch import Tensor, nn


class TwoTower(nn.Module):
    """Q(s, i) = <f(s), g(i)> + b_i + v(s), for all N items at once.

    f: profile, context and the history pooled with geometric weights, through two layers; g: item
    features through a linear map, plus an embedding of the item's id. v is the duelling network's
    state value (Wang et al. 2016, arXiv 1511.06581, eq. 9, with the mean over items removed).
    """

    features: Tensor

    def __init__(self, features: Tensor, profile: int, context: int, dim: int, hidden: int) -> None:
        super().__init__()
        count, width = features.shape
        self.register_buffer("features", features)
        self.item_map = nn.Linear(width, dim)
        self.item_id = nn.Embedding(count, dim)
        self.item_bias = nn.Parameter(torch.zeros(count))
        self.state = nn.Sequential(
            nn.Linear(profile + context + 2 * dim, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
        )
        self.query = nn.Linear(hidden, dim)
        self.value = nn.Linear(hidden, 1)
        nn.init.normal_(self.item_id.weight, std=0.1)

    def forward(self, profile: Tensor, context: Tensor, history: Tensor) -> Tensor:
        """float32 (B, N) from float32 (B, P), float32 (B, C) and int64 (B, H), padded with N."""
        items = self.item_map(self.features) + self.item_id.weight
        padded = torch.cat([items, torch.zeros_like(items[:1])])
        seen = padded[history]
        weight = 0.8 ** torch.arange(history.shape[1], device=history.device)
        pooled = (seen * weight[:, None]).sum(1)
        state = self.state(torch.cat([profile, context, pooled, seen[:, 0]], 1))
        advantage = self.query(state) @ items.T + self.item_bias
        return self.value(state) + advantage - advantage.mean(1, keepdim=True)

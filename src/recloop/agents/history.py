"""What the recent past says: three encoders of the newest H items, chosen by ``network.history``."""

import torch
from torch import Tensor, nn
from torch.nn import functional

FADING = 0.8  # weight of an item relative to the next newer one
HEADS = 2


class Pool(nn.Module):
    """The items' mean, fading with age."""

    weight: Tensor

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.register_buffer("weight", FADING ** torch.arange(length)[:, None], persistent=False)

    def forward(self, seen: Tensor, known: Tensor) -> Tensor:
        """float32 (B, dim) from float32 (B, H, dim), newest first, and bool (B, H)."""
        return (seen * self.weight).sum(1)


class Recurrent(nn.Module):
    """A gated recurrent unit from the oldest to the newest (Cho et al. 2014; Hidasi et al. 2016)."""

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.cell = nn.GRU(dim, dim, batch_first=True)

    def forward(self, seen: Tensor, known: Tensor) -> Tensor:
        """As ``Pool.forward``."""
        return self.cell(seen.flip(1))[0][:, -1]


class Attention(nn.Module):
    """A block of self-attention, read at the newest item (Kang and McAuley 2018, "SASRec", section III)."""

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        if dim % HEADS:
            raise ValueError(f"network.dim must be a multiple of {HEADS} for attention, not {dim}")
        self.place = nn.Parameter(0.1 * torch.randn(length, dim))
        self.query, self.pair = nn.Linear(dim, dim), nn.Linear(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim)
        self.deep = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, seen: Tensor, known: Tensor) -> Tensor:
        """As ``Pool.forward``; the newest place is attended to even where nothing is known."""
        placed = seen + self.place
        newest = torch.arange(known.shape[1], device=seen.device) == 0
        query, key, value = (_heads(x) for x in (self.query(placed[:, :1]), *self.pair(placed).chunk(2, 2)))
        mask = (known | newest[None])[:, None, None, :]
        found = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        mixed = self.norm(placed[:, 0] + found.transpose(1, 2).flatten(2)[:, 0])
        return mixed + self.deep(mixed)


def _heads(x: Tensor) -> Tensor:
    """(B, heads, H, dim / heads)."""
    return x.unflatten(2, (HEADS, -1)).transpose(1, 2)


ENCODERS = {"pool": Pool, "gru": Recurrent, "attention": Attention}

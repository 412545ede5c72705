"""A next-item model: a causal transformer over what a person met, one item after another.

SASRec (Kang and McAuley 2018, arXiv 1808.09781, section III) with normalisation before each block and the
output tied to the item embeddings. Two losses, which alone decide much of how well it ranks (Klenitskiy and
Vasilev 2023, arXiv 2309.07602; Petrov and Macdonald 2023, arXiv 2308.07192):

    bce        -log s(x_i) - log(1 - s(x_j)): the item met against one that was not, drawn uniformly
    softmax    -log softmax(x)_i over the catalogue
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

Loss = Literal["bce", "softmax"]


@dataclass(frozen=True)
class Sizes:
    """What a next-item model is built and trained with.

    Attributes:
        dim: width of an item's vector, a multiple of ``heads``.
        blocks: transformer blocks.
        heads: attention heads.
        length: items remembered.
        dropout: share of activations left out while training.
        rate: Adam's learning rate.
        batch: windows of a batch.
        epochs: most passes over the log.
        patience: looks at the validation without a gain, after which training ends.
        every: passes between two looks.
    """

    dim: int = 48
    blocks: int = 2
    heads: int = 2
    length: int = 50
    dropout: float = 0.3
    rate: float = 3e-3
    batch: int = 32
    epochs: int = 200
    patience: int = 5
    every: int = 2


class Block(nn.Module):
    """Attention to what came before, then two layers; each added to what went in."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        dim, self.heads = sizes.dim, sizes.heads
        self.before, self.between = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.mix, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.deep = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.drop = nn.Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """float32 (B, L, dim)."""
        query, key, value = self.mix(self.before(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        chance = self.drop.p if self.training else 0.0
        found = functional.scaled_dot_product_attention(query, key, value, is_causal=True, dropout_p=chance)
        x = x + self.drop(self.out(found.transpose(1, 2).flatten(2)))
        return x + self.drop(self.deep(self.between(x)))


class NextItem(nn.Module):
    """Scores of all N items after each item of a past; see the module's docstring."""

    def __init__(self, items: int, sizes: Sizes) -> None:
        super().__init__()
        self.items, self.sizes = items, sizes
        self.item = nn.Embedding(items + 1, sizes.dim, padding_idx=items)
        self.place = nn.Parameter(0.02 * torch.randn(sizes.length, sizes.dim))
        self.blocks = nn.Sequential(*(Block(sizes) for _ in range(sizes.blocks)))
        self.last = nn.LayerNorm(sizes.dim)
        self.drop = nn.Dropout(sizes.dropout)
        self.bias = nn.Parameter(torch.zeros(items))
        nn.init.normal_(self.item.weight, std=0.02)
        with torch.no_grad():
            self.item.weight[items] = 0

    def states(self, past: Tensor) -> Tensor:
        """float32 (B, L, dim) of int64 (B, L) items, oldest first, padded with N at the end."""
        x = self.item(past) * self.sizes.dim**0.5 + self.place[: past.shape[1]]
        return self.last(self.blocks(self.drop(x)))

    def scores(self, states: Tensor) -> Tensor:
        """float32 (..., N)."""
        return states @ self.item.weight[:-1].T + self.bias

    @torch.no_grad()
    def rank(self, pasts: Sequence[np.ndarray]) -> np.ndarray:
        """float32 (B, N): scores of what comes after each past (oldest first)."""
        self.eval()
        past = padded([p[-self.sizes.length :] for p in pasts], self.items)
        ends = torch.tensor([len(p) for p in pasts]).clamp(1, past.shape[1]) - 1
        return self.scores(self.states(past)[torch.arange(len(past)), ends]).numpy()


def padded(rows: Sequence[np.ndarray], fill: int) -> Tensor:
    """int64 (B, L): the rows, filled up at their ends."""
    matrix = np.full((len(rows), max(1, *(len(row) for row in rows)) if rows else 1), fill, np.int64)
    for line, row in zip(matrix, rows, strict=True):
        line[: len(row)] = row
    return torch.from_numpy(matrix)


def windows(
    log: Sequence[np.ndarray], length: int, batch: int, rng: np.random.Generator
) -> Iterator[list[tuple[int, slice]]]:
    """Every past cut into windows of ``length`` steps from a random start, as (person, slice), in random
    batches of windows about as long."""
    cuts = []
    for person, row in enumerate(log):
        start = int(rng.integers(0, length)) - length if len(row) > length + 1 else 0
        cuts += [(person, slice(max(at, 0), at + length + 1)) for at in range(start, len(row) - 1, length)]
    size = np.array([min(cut.stop, len(log[person])) - cut.start for person, cut in cuts])
    cuts = [cuts[i] for i in np.argsort(size + rng.random(len(size)) * 8) if size[i] > 1]
    parts = [cuts[i : i + batch] for i in range(0, len(cuts), batch)]
    yield from (parts[i] for i in rng.permutation(len(parts)))


def fit(
    log: Sequence[np.ndarray],
    items: int,
    loss: Loss,
    sizes: Sizes,
    seed: int,
    judge: Callable[[NextItem], float],
    say: Callable[[int], object] = lambda epoch: None,
) -> NextItem:
    """Learn from each person's items, oldest first, until ``judge`` (higher is better) gains nothing more;
    returns the model that it likes best. ``say`` hears the number of every pass.

    Raises:
        ValueError: nobody has two items.
    """
    if all(len(row) < 2 for row in log):
        raise ValueError("nobody has met two items: there is no next one to learn")
    torch.manual_seed(seed)
    rng = np.random.default_rng([seed, 11])
    model = NextItem(items, sizes)
    optimiser = torch.optim.Adam(model.parameters(), sizes.rate, betas=(0.9, 0.98))
    best, waited = -np.inf, 0
    kept = {name: x.clone() for name, x in model.state_dict().items()}
    for epoch in range(1, sizes.epochs + 1):
        model.train()
        for cuts in windows(log, sizes.length, sizes.batch, rng):
            optimiser.zero_grad()
            _loss(model, log, cuts, loss, rng).backward()
            optimiser.step()
        say(epoch)
        if epoch % sizes.every:
            continue
        score = judge(model)
        waited += 1
        if score > best:
            best, waited = score, 0
            kept = {name: x.clone() for name, x in model.state_dict().items()}
        if waited >= sizes.patience:
            break
    model.load_state_dict(kept)
    return model.eval()


def _loss(
    model: NextItem,
    log: Sequence[np.ndarray],
    cuts: list[tuple[int, slice]],
    loss: Loss,
    rng: np.random.Generator,
) -> Tensor:
    rows = padded([log[person][cut] for person, cut in cuts], model.items)
    past, following = rows[:, :-1], rows[:, 1:]
    real = following < model.items
    states, wanted = model.states(past)[real], following[real]
    if loss == "softmax":
        return functional.cross_entropy(model.scores(states), wanted)
    other = torch.from_numpy(_unmet(log, cuts, real.sum(1).tolist(), model.items, rng))
    pair = torch.stack([wanted, other], 1)
    logits = (model.item(pair) @ states[:, :, None])[:, :, 0] + model.bias[pair]
    return -(functional.logsigmoid(logits[:, 0]) + functional.logsigmoid(-logits[:, 1])).mean()


def _unmet(
    log: Sequence[np.ndarray],
    cuts: list[tuple[int, slice]],
    counts: list[int],
    items: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """int64 (M,): per step an item drawn uniformly among those that its person never met."""
    drawn = []
    for (person, _), count in zip(cuts, counts, strict=True):
        free = np.ones(items, bool)
        free[log[person]] = False
        drawn.append(rng.choice(np.flatnonzero(free), count))
    return np.concatenate(drawn)

"""The likelihood of what people do with a slate: what a user model fits.

    choice   v_j = <x, e_i> + b_i + c - p_j, "none" at 0       (multinomial logit over the logged slate)
    extra    log-odds <y, e_i> + b'_i + c' of feedback beyond the click (a purchase), given a click
    leaving  log-odds a - s,  s <- d s + w_i after a click,  s <- d s + n without one

x, y: linear maps of an encoding of profile, context and pooled history; e_i, b_i, b'_i, w_i: linear
maps of the item's features plus parameters of its own, which a Gaussian prior holds near 0, so that an
item that was rarely shown is judged by its features. w_i is what consuming item i does to the wish to
stay: the one thing that a model of clicks cannot know. Its map also sees b_i and b'_i, standardised:
how an item sells and how it tempts tell of what it leaves behind.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from recloop.market.interface import Observation

KEEP = 1.0  # log-odds of d before anything is known
FADING = 0.85  # weight of an act of the history relative to the next newer one


class Response(nn.Module):
    """Parameters and terms of the likelihood; N items, F features."""

    features: Tensor

    def __init__(self, features: Tensor, profile: int, context: int, positions: int, dim: int) -> None:
        super().__init__()
        count, width = features.shape
        self.register_buffer("features", features)
        self.item_map = nn.Linear(width, dim)
        self.item_own = nn.Parameter(0.05 * torch.randn(count, dim))
        self.trait_map = nn.Linear(width, 2, bias=False)
        self.trait_own = nn.Parameter(torch.zeros(count, 2))
        self.encoder = nn.Sequential(nn.Linear(profile + context + dim, 2 * dim), nn.Tanh())
        self.heads = nn.Linear(2 * dim, 2 * dim)
        self.position = nn.Parameter(torch.zeros(positions))
        self.click_bias = nn.Parameter(torch.zeros(()))
        self.extra_bias = nn.Parameter(torch.zeros(()))
        self.leaving = Leaving(width, count)
        nn.init.zeros_(self.trait_map.weight)

    def effects(self) -> Tensor:
        """float32 (N,): w, given b and b' as they are."""
        return self.leaving.effects(self.features, self.traits().detach())

    def items(self) -> Tensor:
        """float32 (N, dim): e."""
        return self.item_map(self.features) + self.item_own

    def traits(self) -> Tensor:
        """float32 (N, 2): b and b'."""
        return self.trait_map(self.features) + self.trait_own

    def people(self, observation: Observation, items: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, dim) twice: x and y. Items of the history that are not in 0..N-1 say nothing."""
        history = observation["history"]
        fading = FADING ** torch.arange(history.shape[1], device=items.device)
        known = (history >= 0) & (history < len(items))
        weight = known * fading
        safe = torch.where(known, history, 0)
        pooled = functional.embedding_bag(safe, items, mode="sum", per_sample_weights=weight)
        pooled = pooled / weight.sum(1, keepdim=True).clamp(min=1)
        encoded = self.encoder(torch.cat([observation["profile"], observation["context"], pooled], 1))
        liking, extra = self.heads(encoded).chunk(2, 1)
        return liking, extra

    def utilities(
        self,
        liking: Tensor,
        items: Tensor,
        slates: Tensor,
        positions: Tensor,
        traits: Tensor | None = None,
    ) -> Tensor:
        """float32 (B, k); padding (index N) gets -inf. Who has ``traits()`` already may give them."""
        traits = self.traits() if traits is None else traits
        size = len(items)
        safe = slates.clamp(max=size - 1)
        value = (functional.embedding(safe, items) @ liking[:, :, None])[:, :, 0]
        value = value + traits[:, 0][safe] + self.click_bias
        value = value - self.position[positions.clamp(0, len(self.position) - 1)]
        return value.masked_fill(slates >= size, -torch.inf)

    def appeal(self, liking: Tensor, items: Tensor, traits: Tensor) -> Tensor:
        """float32 (B, N): <x, e_i> + b_i, by which the click model orders items."""
        return liking @ items.T + traits[:, 0]

    def extra_logit(self, extra: Tensor, items: Tensor, item: Tensor, traits: Tensor | None = None) -> Tensor:
        """float32 (B,): log-odds of feedback beyond the click."""
        traits = self.traits() if traits is None else traits
        return (extra * items[item]).sum(1) + traits[:, 1][item] + self.extra_bias


class Leaving(nn.Module):
    """The part of the likelihood that a session's past decides."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.lasting_map = nn.Linear(width + 2, 1, bias=False)
        self.lasting_own = nn.Parameter(torch.zeros(count))
        self.base = nn.Parameter(torch.tensor(-2.0))
        self.unmoved = nn.Parameter(torch.tensor(0.0))
        self.keep = nn.Parameter(torch.tensor(KEEP))
        nn.init.zeros_(self.lasting_map.weight)

    def effects(self, features: Tensor, traits: Tensor) -> Tensor:
        """float32 (N,): w, of items with features (N, F) and b, b' (N, 2)."""
        centred = traits - traits.mean(0)
        traits = centred / centred.square().mean(0).sqrt().clamp(min=1e-6)
        return self.lasting_map(torch.cat([features, traits], 1))[:, 0] + self.lasting_own

    def moved(self, effects: Tensor, item: Tensor, clicked: Tensor) -> Tensor:
        """float32, like ``item``: w_i after a click, n without one."""
        return torch.where(clicked, effects[item], self.unmoved)

    def feel(self, feeling: Tensor, moved: Tensor) -> Tensor:
        """float32 (B,): s after a request."""
        return self.keep.sigmoid() * feeling + moved

    def logit(self, feeling: Tensor) -> Tensor:
        """float32 (B,): log-odds of leaving."""
        return self.base - feeling

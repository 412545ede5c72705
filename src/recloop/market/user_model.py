"""A user model fitted on logs: the market in which policies learn, and in which they are judged.

    choice   v_j = <x, e_i> + b_i - p_j, "none" at 0         (multinomial logit over the logged slate)
    extra    log-odds <y, e_i> + c_i of feedback beyond the click (a purchase), given a click
    leaving  log-odds a + f s,  s <- d s + w_i after a click,  s <- d s + n without one

x, y: linear maps of an encoding of profile, context and pooled history; e_i: item features through
a linear map plus an embedding of the id; w_i: what having consumed item i does to the wish to stay.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from recloop.market.interface import Observation, Outcome, choose, happens, push


class Response(nn.Module):
    """The likelihood of what people do; N items, F features."""

    features: Tensor

    def __init__(self, features: Tensor, profile: int, context: int, positions: int, dim: int) -> None:
        super().__init__()
        count, width = features.shape
        self.register_buffer("features", features)
        self.item_map = nn.Linear(width, dim)
        self.item_id = nn.Embedding(count, dim)
        self.item_bias = nn.Embedding(count, 3)  # liking, extra, effect on staying
        self.encoder = nn.Sequential(nn.Linear(profile + context + dim, 2 * dim), nn.Tanh())
        self.heads = nn.Linear(2 * dim, 2 * dim)
        self.position = nn.Parameter(torch.zeros(positions))
        self.click_bias = nn.Parameter(torch.zeros(()))
        self.extra_bias = nn.Parameter(torch.zeros(()))
        self.stay = nn.Parameter(torch.tensor([-2.0, -1.0, -0.1, 1.0]))  # a, f, n, logit d
        nn.init.normal_(self.item_id.weight, std=0.05)
        nn.init.zeros_(self.item_bias.weight)

    def items(self) -> Tensor:
        """float32 (N, dim): e."""
        return self.item_map(self.features) + self.item_id.weight

    def people(self, observation: Observation, items: Tensor) -> tuple[Tensor, Tensor]:
        """float32 (B, dim) twice: x and y."""
        padded = torch.cat([items, torch.zeros_like(items[:1])])
        history = observation["history"]
        known = (history < len(items)).float()
        weight = known * 0.85 ** torch.arange(history.shape[1], device=items.device)
        pooled = torch.einsum("bh,bhd->bd", weight, padded[history]) / weight.sum(1, keepdim=True).clamp(
            min=1
        )
        encoded = self.encoder(torch.cat([observation["profile"], observation["context"], pooled], 1))
        liking, extra = self.heads(encoded).chunk(2, 1)
        return liking, extra

    def utilities(self, liking: Tensor, items: Tensor, slates: Tensor, positions: Tensor) -> Tensor:
        """float32 (B, k); padding (index N) gets -inf."""
        size = len(items)
        safe = slates.clamp(max=size - 1)
        value = (
            torch.einsum("bd,bkd->bk", liking, items[safe]) + self.item_bias(safe)[..., 0] + self.click_bias
        )
        value = value - self.position[positions.clamp(0, len(self.position) - 1)]
        return value.masked_fill(slates >= size, -torch.inf)

    def extra_logit(self, extra: Tensor, items: Tensor, item: Tensor) -> Tensor:
        """float32 (B,): log-odds of feedback beyond the click."""
        return (extra * items[item]).sum(1) + self.item_bias(item)[:, 1] + self.extra_bias

    def feel(self, feeling: Tensor, item: Tensor, clicked: Tensor) -> Tensor:
        """float32 (B,): s after a request."""
        effect = torch.where(clicked, self.item_bias(item)[..., 2], self.stay[2])
        return self.stay[3].sigmoid() * feeling + effect

    def leave_logit(self, feeling: Tensor) -> Tensor:
        """float32 (B,): log-odds of leaving."""
        return self.stay[0] + self.stay[1] * feeling


@dataclass(frozen=True)
class Start:
    """How people were when a logged session began: they are whom the simulation draws from."""

    profile: Tensor
    context: Tensor
    history: Tensor


class UserModel:
    """A fitted response as a ``Market``.

    Attributes:
        response: the fitted likelihood.
        start: the logged session starts.
        worth: reward of a click, mean reward of the extra feedback, mean reward without a click.
        longest: requests of the longest logged session, after which everyone is sent home.
    """

    def __init__(
        self,
        response: Response,
        start: Start,
        worth: tuple[float, float, float],
        longest: int,
        device: str = "cpu",
    ) -> None:
        self.response = response.to(device).eval().requires_grad_(False)
        self.start = Start(start.profile.to(device), start.context.to(device), start.history.to(device))
        self.worth, self.longest = worth, longest
        self.device = torch.device(device)
        self.n_items = len(response.features)
        self._items = response.items()
        self.seed(0)

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self, count: int) -> Observation:
        """``count`` people arrive, drawn from the logged session starts."""
        drawn = torch.randint(
            len(self.start.profile), (count,), generator=self._generator, device=self.device
        )
        self.profile, self.context = self.start.profile[drawn], self.start.context[drawn]
        self.history = self.start.history[drawn]
        self.feeling = torch.zeros(count, device=self.device)
        self.requests = torch.zeros(count, dtype=torch.int64, device=self.device)
        return self.observe()

    def observe(self) -> Observation:
        """What a policy sees."""
        return {"profile": self.profile, "context": self.context, "history": self.history}

    @torch.no_grad()
    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates."""
        model, rows = self.response, torch.arange(len(slates), device=self.device)
        liking, extra = model.people(self.observe(), self._items)
        positions = torch.arange(slates.shape[1], device=self.device).expand_as(slates)
        place = choose(model.utilities(liking, self._items, slates, positions), self._generator)
        clicked = place >= 0
        item = slates[rows, place.clamp(min=0)]
        more = clicked & happens(model.extra_logit(extra, self._items, item), self._generator)
        self.feeling = model.feel(self.feeling, item, clicked)
        self.history = push(self.history, item, clicked)
        self.requests = self.requests + 1
        done = happens(model.leave_logit(self.feeling), self._generator) | (self.requests >= self.longest)
        click, beyond, nothing = self.worth
        reward = torch.where(clicked, click + beyond * more, torch.full_like(self.feeling, nothing))
        return Outcome(place, more, reward, done)

    def arrive(self, gone: Tensor) -> None:
        """Replace the people where bool (B,) ``gone`` holds."""
        kept = {name: getattr(self, name) for name in _STATE}
        self.reset(len(gone))
        for name, old in kept.items():
            mask = gone.view(-1, *[1] * (old.dim() - 1))
            setattr(self, name, torch.where(mask, getattr(self, name), old))

    @torch.no_grad()
    def click_scores(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """float32 (B, N): v, the scores of the myopic click model."""
        tensors = {name: torch.from_numpy(np.ascontiguousarray(x)) for name, x in observation.items()}
        liking, _ = self.response.people(tensors, self._items)
        return (liking @ self._items.T + self.response.item_bias.weight[:, 0]).numpy()

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"response.{name}": x.contiguous() for name, x in self.response.state_dict().items()}
        tensors |= {f"start.{name}": x.contiguous() for name, x in vars(self.start).items()}
        save_file(tensors, folder / "model.safetensors")
        (folder / "model.json").write_text(json.dumps({"worth": self.worth, "longest": self.longest}) + "\n")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what ``save`` wrote."""
        tensors = load_file(folder / "model.safetensors")
        response = {k.removeprefix("response."): v for k, v in tensors.items() if k.startswith("response.")}
        start = Start(**{k.removeprefix("start."): v for k, v in tensors.items() if k.startswith("start.")})
        module = Response(
            response["features"],
            start.profile.shape[1],
            start.context.shape[1],
            len(response["position"]),
            response["item_id.weight"].shape[1],
        )
        module.load_state_dict(response)
        facts = json.loads((folder / "model.json").read_text())
        return cls(module, start, tuple(facts["worth"]), facts["longest"], device)


_STATE = ("profile", "context", "history", "feeling", "requests")

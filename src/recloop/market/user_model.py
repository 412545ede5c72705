"""A user model fitted on logs: the market in which policies learn, and in which they are judged."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from recloop.market.crowd import Crowd
from recloop.market.interface import Observation, Outcome, choose, happens, push
from recloop.market.response import Response


class UserModelError(RuntimeError):
    """A folder holds no user model that can be used; the message says what to do."""


@dataclass(frozen=True)
class Start:
    """How people were when a logged session began: they are whom the simulation draws from."""

    profile: Tensor
    context: Tensor
    history: Tensor


class UserModel(Crowd):
    """A fitted response as a ``Market``.

    Attributes:
        response: the fitted likelihood.
        start: the logged session starts.
        worth: reward of a click, mean reward of the extra feedback, mean reward without a click.
        longest: requests after which everyone is sent home: of the longest logged session, 50 at most.
    """

    profile: Tensor
    context: Tensor
    history: Tensor
    feeling: Tensor
    requests: Tensor

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
        self._items, self._traits = self.response.items(), self.response.traits()
        self._effects = self.response.effects()
        self.seed(0)

    def _arrivals(self, count: int) -> dict[str, Tensor]:
        start, device = self.start, self.device
        drawn = torch.randint(len(start.profile), (count,), generator=self._generator, device=device)
        return {
            "profile": start.profile.index_select(0, drawn),
            "context": start.context.index_select(0, drawn),
            "history": start.history.index_select(0, drawn),
            "feeling": torch.zeros(count, device=device),
            "requests": torch.zeros(count, dtype=torch.int64, device=device),
        }

    def observe(self) -> Observation:
        """What a policy sees."""
        return {"profile": self.profile, "context": self.context, "history": self.history}

    @torch.no_grad()
    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates.

        Raises:
            ValueError: slates of another shape, or that name items beyond N.
        """
        model, slates = self.response, self._shown(slates, len(self.requests))
        liking, extra = model.people(self.observe(), self._items)
        positions = torch.arange(slates.shape[1], device=self.device).expand_as(slates)
        utilities = model.utilities(liking, self._items, slates, positions, self._traits)
        place = choose(utilities, self._generator)
        clicked = place >= 0
        item = slates.gather(1, place.clamp(min=0)[:, None])[:, 0].clamp(max=self.n_items - 1)
        more = clicked & happens(model.extra_logit(extra, self._items, item, self._traits), self._generator)
        self.feeling = model.leaving.feel(self.feeling, model.leaving.moved(self._effects, item, clicked))
        self.history = push(self.history, item, clicked)
        self.requests = self.requests + 1
        done = happens(model.leaving.logit(self.feeling), self._generator) | (self.requests >= self.longest)
        click, beyond, nothing = self.worth
        reward = torch.where(clicked, click + beyond * more, torch.full_like(self.feeling, nothing))
        return Outcome(place, more, reward, done)

    @torch.no_grad()
    def click_scores(self, observation: dict[str, np.ndarray]) -> np.ndarray:
        """float32 (B, N): the scores of the myopic click model, which knows nothing of leaving."""
        tensors = {
            name: torch.from_numpy(np.ascontiguousarray(x)).to(self.device) for name, x in observation.items()
        }
        liking, _ = self.response.people(tensors, self._items)
        return self.response.appeal(liking, self._items, self._traits).cpu().numpy()

    def effects(self) -> Tensor:
        """float32 (N,): what having consumed an item does to the log-odds of staying."""
        return self._effects

    def save(self, folder: Path) -> None:
        """Write ``model.safetensors`` and ``model.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"response.{name}": x.contiguous() for name, x in self.response.state_dict().items()}
        tensors |= {f"start.{name}": x.contiguous() for name, x in vars(self.start).items()}
        save_file(tensors, folder / "model.safetensors")
        (folder / "model.json").write_text(json.dumps({"worth": self.worth, "longest": self.longest}) + "\n")

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> Self:
        """Read what ``save`` wrote.

        Raises:
            UserModelError: a file is missing, damaged or of another layout.
        """
        try:
            tensors = load_file(folder / "model.safetensors")
            facts = json.loads((folder / "model.json").read_text())
            parts = {
                part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
                for part in ("response.", "start.")
            }
            start, response = Start(**parts["start."]), parts["response."]
            sizes = start.profile.shape[1], start.context.shape[1], len(response["position"])
            module = Response(response["features"], *sizes, response["item_own"].shape[1])
            module.load_state_dict(response)
            return cls(module, start, tuple(facts["worth"]), facts["longest"], device)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
            raise UserModelError(
                f"no user model can be read from {folder}: {error}. Fit it again: dvc repro -f user_model"
            ) from error

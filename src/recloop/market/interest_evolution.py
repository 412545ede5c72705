"""RecSim's benchmark task "interest evolution": 10 candidates a step, a slate of 2, a budget of time.

Ie et al. 2019, "RecSim: A configurable simulation platform for recommender systems", arXiv 1909.04847,
and "SlateQ", arXiv 1905.12767, section 6; the numbers are the defaults of RecSim's module
``interest_evolution``. With u in [-1, 1]^20 a person's interests, t a video's topic, q its quality:

    quality   q ~ N(m_t, 0.1), m: 14 topics evenly from -3 to 0, then 6 from 0 to 3
    choice    P(video) in proportion to u_t + 1, P(none) to 2, over the slate
              ("logit": in proportion to e^(u_t), P(none) to e)
    reward    minutes watched: 4, or what is left of the budget if that is less
    budget    200 minutes; after a video less the minutes w watched, and w q 0.9 / 3.4 more;
              after a slate without a choice 0.5 less; at 0 the person leaves
    interests u_t <- u_t +- 0.3 (1 - |u_t|) (1 - u_t), "+" with probability (u_t + 1) / 2, kept in [-1, 1]

A good topic pays in minutes to come and a liked one in minutes now: the interests must be led.
"""

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recloop.market.crowd import Crowd
from recloop.market.interface import Observation, Outcome, choose, push

TOPICS, TRASHY = 20, 14
CANDIDATES, SLATE = 10, 2
BUDGET, LENGTH, PENALTY = 200.0, 4.0, 0.5  # minutes
SPREAD = 0.1  # standard deviation of quality within a topic
BONUS = 0.9 / 3.4  # minutes won per minute watched and unit of quality
STEP = 0.3  # largest step of an interest
NO_CLICK = 1.0  # the score of choosing nothing
WORST = -1.0  # the lowest score that a video can have
HISTORY = 10  # videos that an observation remembers


class InterestEvolution(Crowd):
    """The task as a ``Market``.

    RecSim draws new videos at every step. Here they come from a corpus of N, so that an item keeps its
    index: each step draws 10 of it for each person, and the observation's ``candidates`` int64 (B, 10)
    names them. A slate's item that is no candidate is an empty place. ``profile`` float32 (B, 20) holds
    the interests, which RecSim shows too; ``context`` float32 (B, 1) is 0, for the budget is hidden.

    Attributes:
        features: float32 (N, 20), one-hot topics: what can be seen of an item.
        topic: int64 (N,).
        quality: float32 (N,), hidden.
        budget: float32 (B,), minutes left, hidden.
        candidates: int64 (B, 10), what can be shown now; all different.
    """

    interests: Tensor
    budget: Tensor
    history: Tensor
    candidates: Tensor

    def __init__(
        self,
        seed: int,
        items: int = 2000,
        device: str = "cpu",
        choice: Literal["proportional", "logit"] = "proportional",
    ) -> None:
        if items < CANDIDATES:
            raise ValueError(f"a corpus needs at least {CANDIDATES} videos, one per candidate, not {items}")
        rng = np.random.default_rng([seed, 6])
        self.n_items, self.device, self.choice = items, torch.device(device), choice
        means = np.concatenate([np.linspace(-3, 0, TRASHY), np.linspace(0, 3, TOPICS - TRASHY)])
        topic = rng.integers(0, TOPICS, items)
        quality = torch.tensor(rng.normal(means[topic], SPREAD), dtype=torch.float32)
        self.topic, self.quality = torch.from_numpy(topic).to(self.device), quality.to(self.device)
        self.features = functional.one_hot(self.topic, TOPICS).float()
        self.seed(seed)

    def _arrivals(self, count: int) -> dict[str, Tensor]:
        return {
            "interests": 2 * self._uniform(count, TOPICS) - 1,
            "budget": torch.full((count,), BUDGET, device=self.device),
            "history": torch.full((count, HISTORY), self.n_items, device=self.device),
            "candidates": self._candidates(count),
        }

    def _uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self.device)

    def _candidates(self, count: int) -> Tensor:
        """int64 (count, 10): without replacement, one from each of ten strides through the corpus.

        Videos are drawn alike and stand in no order, so a video per stride, from a start of one's own,
        is as good as ten draws, and costs ten numbers, not N.
        """
        width = self.n_items // CANDIDATES
        first = torch.arange(CANDIDATES, device=self.device) * width
        within = torch.randint(width, (count, CANDIDATES), generator=self._generator, device=self.device)
        start = torch.randint(self.n_items, (count, 1), generator=self._generator, device=self.device)
        return (start + first + within) % self.n_items

    def observe(self) -> Observation:
        """What a policy sees; see the class."""
        return {
            "profile": self.interests,
            "context": torch.zeros_like(self.budget)[:, None],
            "history": self.history,
            "candidates": self.candidates,
        }

    def utilities(self, slates: Tensor) -> Tensor:
        """float32 (B, k): log of each place's mass relative to that of none; -inf for no candidate."""
        there = (slates[:, :, None] == self.candidates[:, None]).any(2)
        score = self.interests.gather(1, self.topic[slates.clamp(max=self.n_items - 1)])
        proportional = ((score - WORST) / (NO_CLICK - WORST)).log()
        utility = score - NO_CLICK if self.choice == "logit" else proportional
        return utility.masked_fill(~there, -torch.inf)

    @torch.no_grad()
    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates; rewards are minutes watched, ``bought`` is always false.

        Raises:
            ValueError: slates of another shape, or that name items beyond N.
        """
        slates = self._shown(slates, len(self.budget))
        place = choose(self.utilities(slates), self._generator)
        clicked = place >= 0
        item = slates.gather(1, place.clamp(min=0)[:, None])[:, 0].clamp(max=self.n_items - 1)
        watched = clicked * self.budget.clamp(min=0, max=LENGTH)
        self.budget = self.budget + torch.where(clicked, watched * (BONUS * self.quality[item] - 1), -PENALTY)
        self._evolve(self.topic[item][:, None], clicked)
        self.history = push(self.history, item, clicked)
        self.candidates = self._candidates(len(item))
        return Outcome(place, torch.zeros_like(clicked), watched, self.budget <= 0)

    def _evolve(self, topic: Tensor, clicked: Tensor) -> None:
        """Lead the interest in the topic that was watched towards it or away from it."""
        now = self.interests.gather(1, topic)
        size = STEP * (1 - now.abs()) * (1 - now) * clicked[:, None]
        up = self._uniform(len(now), 1) < (now + 1) / 2
        self.interests = self.interests.scatter(1, topic, (now + torch.where(up, size, -size)).clamp(-1, 1))

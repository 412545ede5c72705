"""The generated marketplace's ground truth.

With u a person's interests, q, z, b an item's topic, quality and bait, j its position (0 first),
a the satiation per topic, s the satisfaction:

    choice       v_j = 2.2 <u, q> + 0.7 b - 0.8 <a, q> - p_j - c,   P(j) = e^v_j / (1 + sum e^v)
    position     p_j = 0.25 j on a phone, 0.15 j elsewhere;  c = 1.6, and 0.4 more at 4 in the morning
    purchase     log-odds  -2.4 + 0.8 <u, q> + 1.0 z - 0.5 (price - 1)
    satisfaction s <- 0.8 s + 0.4 z - 0.5 b after a click, s <- 0.8 s - 0.15 without one
    leaving      log-odds  -3.3 - 1.1 s, and always at the horizon
    interests    u <- u + 0.03 (q - u / |u|) after a click
    satiation    a <- 0.85 a, plus 0.3 q after a click

So bait is the short way to a click and the long way to an empty shop: the choice model rewards it,
the satisfaction pays for it. The parts (choice, response, leaving) follow RecSim (Ie et al. 2019,
arXiv 1909.04847, section 4).
"""

import math

import numpy as np
import torch
from torch import Tensor

from recloop.features import FeatureSpec
from recloop.market.interface import Observation, Outcome, choose, happens, push
from recloop.market.population import DAY_US, DEVICE_SHARES, DEVICES, EPOCH_US, make_offers, make_people
from recloop.settings.params import MarketParams, RewardParams

REQUEST_US = 40_000_000  # between two requests of a person


class GroundTruth:
    """The market that logs come from and that simulated people live in; a ``Market``.

    Attributes:
        people: the population, with what cannot be seen of it.
        offers: the catalogue, with what cannot be seen of it.
        persons: int64 (B,), who is in the batch, as an index into ``people``.
        ts: int64 (B,), each one's clock, µs since 1970, UTC.
    """

    def __init__(self, params: MarketParams, reward: RewardParams, seed: int, device: str = "cpu") -> None:
        rng = np.random.default_rng([seed, 1])
        self.params, self.reward, self.device = params, reward, torch.device(device)
        self.offers = make_offers(params.items, params.topics, rng)
        self.people = make_people(params.users, params.topics, rng)
        self.n_items = params.items
        offers = self.offers
        self._topic, self._quality = offers.topic.to(self.device), offers.quality.to(self.device)
        self._bait, self._price = offers.bait.to(self.device), offers.price.to(self.device)
        self._interest = self.people.interest.to(self.device)
        self._spec: FeatureSpec | None = None
        self.seed(seed)

    def attach(self, spec: FeatureSpec) -> "GroundTruth":
        """Let ``observe`` see people as a policy does. Items must be those of the specification.

        Raises:
            ValueError: the specification is of another catalogue.
        """
        if spec.item_ids != tuple(item.item_id for item in self.offers.records):
            raise ValueError("the feature specification names other items than this market has")
        self._spec = spec
        self._profiles = torch.from_numpy(spec.profiles(self.people.records)).to(self.device)
        return self

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self, count: int) -> Observation:
        """``count`` people arrive, drawn from the population."""
        return self.reset_to(torch.randint(len(self.people.records), (count,), generator=self._generator))

    def reset_to(self, persons: Tensor) -> Observation:
        """These people arrive; int64 (B,)."""
        count = len(persons)
        self.persons = persons.to(self.device)
        self.interest = self._interest[self.persons].clone()
        self.satiation = torch.zeros_like(self.interest)
        self.satisfaction = torch.zeros(count, device=self.device)
        self.requests = torch.zeros(count, dtype=torch.int64, device=self.device)
        size = self._spec.history if self._spec else 1
        self.history = torch.full((count, size), self.n_items, dtype=torch.int64, device=self.device)
        shares = torch.tensor(DEVICE_SHARES, device=self.device)
        self.devices = torch.multinomial(shares, count, replacement=True, generator=self._generator)
        minutes = torch.randint(14 * 24 * 60, (count,), generator=self._generator, device=self.device)
        self.ts = EPOCH_US + minutes * 60_000_000
        return self.observe() if self._spec else {}

    def observe(self) -> Observation:
        """What a policy sees; needs ``attach`` first."""
        assert self._spec is not None, "attach a FeatureSpec before observing"
        names = [DEVICES[i] for i in self.devices.tolist()]
        context = torch.from_numpy(self._spec.contexts(names, self.ts.cpu().numpy()))
        return {
            "profile": self._profiles[self.persons],
            "context": context.to(self.device),
            "history": self.history,
        }

    def utilities(self, slates: Tensor) -> Tensor:
        """float32 (B, k): v_j of the module's docstring."""
        topic = self._topic[slates]
        fit = torch.einsum("bd,bkd->bk", self.interest, topic)
        sated = torch.einsum("bd,bkd->bk", self.satiation, topic)
        slope = torch.where(self.devices == 0, 0.25, 0.15)
        position = slope[:, None] * torch.arange(slates.shape[1], device=self.device)
        hour = (self.ts % DAY_US).double() / DAY_US * 24
        night = (0.4 * torch.cos((hour - 4) / 24 * math.tau).clamp(min=0)).float()
        return 2.2 * fit + 0.7 * self._bait[slates] - 0.8 * sated - position - 1.6 - night[:, None]

    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates."""
        rows = torch.arange(len(slates), device=self.device)
        place = choose(self.utilities(slates), self._generator)
        clicked = place >= 0
        item = slates[rows, place.clamp(min=0)]
        topic, quality = self._topic[item], self._quality[item]
        fit = (self.interest * topic).sum(1)
        buys = happens(-2.4 + 0.8 * fit + quality - 0.5 * (self._price[item] - 1), self._generator)
        bought = clicked & buys
        after = torch.where(clicked, 0.4 * quality - 0.5 * self._bait[item], torch.full_like(quality, -0.15))
        self.satisfaction = 0.8 * self.satisfaction + after
        unit = self.interest / self.interest.norm(dim=1, keepdim=True)
        self.interest = self.interest + 0.03 * clicked[:, None] * (topic - unit)
        self.satiation = 0.85 * self.satiation + 0.3 * clicked[:, None] * topic
        self.history = push(self.history, item, clicked)
        self.requests += 1
        self.ts = self.ts + REQUEST_US
        leaves = happens(-3.3 - 1.1 * self.satisfaction, self._generator)
        reward = self.reward.click * clicked + self.reward.purchase * bought
        return Outcome(place, bought, reward.float(), leaves | (self.requests >= self.params.horizon))

    def arrive(self, gone: Tensor) -> None:
        """Replace the people where bool (B,) ``gone`` holds."""
        kept = {name: getattr(self, name) for name in _STATE}
        self.reset(len(gone))
        for name, old in kept.items():
            new = getattr(self, name)
            mask = gone.view(-1, *[1] * (new.dim() - 1))
            setattr(self, name, torch.where(mask, new, old))


_STATE = (
    "persons", "interest", "satiation", "satisfaction", "requests", "history", "devices", "ts",
)  # fmt: skip

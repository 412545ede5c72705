"""The generated marketplace's ground truth: ``nature`` says how it behaves.

The parts (people, items, choice, response, leaving) follow RecSim (Ie et al. 2019, arXiv 1909.04847,
section 4).
"""

import math

import numpy as np
import torch
from torch import Tensor

from recloop.features import FeatureSpec
from recloop.market.interface import Observation, Outcome, choose, happens, push
from recloop.market.nature import Nature
from recloop.market.population import DAY_US, DEVICE_SHARES, DEVICES, EPOCH_US, make_offers, make_people
from recloop.settings.params import MarketParams, RewardParams

REQUEST_US = 40_000_000  # between two requests of a person
DAYS = 14  # from EPOCH_US: when people arrive


class GroundTruth:
    """The market that logs come from and that simulated people live in; a ``Market``.

    Attributes:
        people: the population, with what cannot be seen of it.
        offers: the catalogue, with what cannot be seen of it.
        users: the records of ``people``.
        items: the records of ``offers``.
        persons: int64 (B,), who is in the batch, as an index into ``people``.
        ts: int64 (B,), each one's clock, µs since 1970, UTC.
        satisfaction: float32 (B,), what decides who leaves.
    """

    def __init__(
        self,
        params: MarketParams,
        reward: RewardParams,
        seed: int,
        spec: FeatureSpec | None = None,
        device: str = "cpu",
        nature: Nature | None = None,
    ) -> None:
        rng = np.random.default_rng([seed, 1])
        self.params, self.reward, self.device = params, reward, torch.device(device)
        self.nature = nature or Nature()
        self.offers = make_offers(params.items, params.topics, rng)
        self.people = make_people(params.users, params.topics, rng)
        self.users, self.items = self.people.records, self.offers.records
        self.n_items = params.items
        offers = self.offers
        self._topic, self._quality = offers.topic.to(self.device), offers.quality.to(self.device)
        self._bait, self._price = offers.bait.to(self.device), offers.price.to(self.device)
        self._interest = self.people.interest.to(self.device)
        self._slopes = torch.tensor(self.nature.position, device=self.device)
        self._spec: FeatureSpec | None = None
        if spec is not None:
            self.attach(spec)
        self.seed(seed)

    def attach(self, spec: FeatureSpec) -> "GroundTruth":
        """Let ``observe`` see people as a policy does. Items must be those of the specification.

        Raises:
            ValueError: the specification is of another catalogue.
        """
        if spec.item_ids != tuple(item.item_id for item in self.items):
            raise ValueError("the feature specification names other items than this market has")
        self._spec = spec
        self._profiles = torch.from_numpy(spec.profiles(self.users)).to(self.device)
        return self

    def seed(self, seed: int) -> None:
        """Start the random numbers anew."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self, count: int) -> Observation:
        """``count`` people arrive, drawn from the population."""
        return self.reset_to(self._draw(len(self.users), count))

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
        self.ts = EPOCH_US + self._draw(DAYS * 24 * 60, count) * 60_000_000
        return self.observe() if self._spec else {}

    def _draw(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self._generator, device=self.device)

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
        """float32 (B, k): v_j of each slate's items, "none" at 0."""
        taste, slope = self._taste(), self._slopes[self.devices]
        fit = torch.einsum("bd,bkd->bk", taste, self._topic[slates])
        position = slope[:, None] * torch.arange(slates.shape[1], device=self.device)
        return fit + self.nature.lure * self._bait[slates] - self._reserve()[:, None] - position

    def oracle(self, foresight: float) -> Tensor:
        """float32 (B, N): scores that know everything, for measuring regret.

        ``foresight`` 0 orders items by the chance of a click now; above 0 it adds that much of what
        they do to the wish to stay. No policy of this kind is the best one, so regret is understated.
        """
        after = self.nature.glad * self._quality - self.nature.sorry * self._bait
        return self._taste() @ self._topic.T + self.nature.lure * self._bait + foresight * after

    def _taste(self) -> Tensor:
        """float32 (B, d): what each person is after now."""
        return self.nature.fit * self.interest - self.nature.sated * self.satiation

    def _reserve(self) -> Tensor:
        """float32 (B,): how far an item has to please before it is clicked at all."""
        hour = (self.ts % DAY_US).double() / DAY_US * 24
        night = torch.cos((hour - 4) / 24 * math.tau).clamp(min=0)
        return (self.nature.reserve + self.nature.night * night).float()

    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates."""
        slates = slates.to(self.device)
        place = choose(self.utilities(slates), self._generator)
        clicked = place >= 0
        item = slates.gather(1, place.clamp(min=0)[:, None])[:, 0]
        bought = clicked & happens(self.purchase_logit(item), self._generator)
        self._live_on(item, clicked)
        leaves = happens(self.nature.leave - self.nature.patience * self.satisfaction, self._generator)
        reward = self.reward.click * clicked + self.reward.purchase * bought
        return Outcome(place, bought, reward.float(), leaves | (self.requests >= self.params.horizon))

    def purchase_logit(self, item: Tensor) -> Tensor:
        """float32 (B,): log-odds of a purchase, given a click on each one's ``item``."""
        nature = self.nature
        fit = (self.interest * self._topic[item]).sum(1)
        worth = nature.buy_quality * self._quality[item] - nature.buy_price * (self._price[item] - 1)
        return nature.buy + nature.buy_fit * fit + worth

    def _live_on(self, item: Tensor, clicked: Tensor) -> None:
        """What a request leaves behind in each person."""
        nature, topic, acted = self.nature, self._topic[item], clicked[:, None]
        after = nature.glad * self._quality[item] - nature.sorry * self._bait[item]
        self.satisfaction = nature.keep * self.satisfaction + torch.where(clicked, after, -nature.bored)
        unit = self.interest / self.interest.norm(dim=1, keepdim=True)
        self.interest = self.interest + nature.drift * acted * (topic - unit)
        self.satiation = nature.rest * self.satiation + nature.tiring * acted * topic
        self.history = push(self.history, item, clicked)
        self.requests = self.requests + 1
        self.ts = self.ts + REQUEST_US

    def arrive(self, gone: Tensor) -> None:
        """Replace the people where bool (B,) ``gone`` holds."""
        kept = {name: getattr(self, name) for name in _STATE}
        self.reset(len(gone))
        for name, old in kept.items():
            mask = gone.view(-1, *[1] * (old.dim() - 1))
            setattr(self, name, torch.where(mask, getattr(self, name), old))


_STATE = (
    "persons", "interest", "satiation", "satisfaction", "requests", "history", "devices", "ts",
)  # fmt: skip

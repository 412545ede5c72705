"""The generated marketplace's ground truth: ``nature`` says how it behaves.

The parts (people, items, choice, response, leaving) follow RecSim (Ie et al. 2019, arXiv 1909.04847,
section 4); docs/market.md tells what each is for.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from recloop.features import FeatureSpec
from recloop.market.crowd import Crowd
from recloop.market.interface import Observation, Outcome, choose, happens, push
from recloop.market.moment import Moments
from recloop.market.nature import Nature
from recloop.market.population import (
    DAY_US,
    DAYS,
    DEVICE_SHARES,
    EPOCH_US,
    STRANGERS,
    make_offers,
    make_people,
)
from recloop.settings.params import MarketParams, RewardParams

REQUEST_US = 40_000_000  # between two requests of a person
MINUTE_US = 60_000_000
MINUTES = 7 * 24 * 60  # of a week
NEVER = 2**62  # when an empty place's item is launched


class GroundTruth(Crowd):
    """The market that logs come from and that simulated people live in; a ``Market``.

    Attributes:
        people: the population, with what cannot be seen of it; the last of it are strangers, who come
            after the log and are not in it.
        offers: the catalogue, with what cannot be seen of it.
        users: the records of the people that the log knows.
        items: the records of ``offers``.
        persons: int64 (B,), who is in the batch, as an index into ``people``.
        ts: int64 (B,), each one's clock, µs since 1970, UTC.
        satisfaction: float32 (B,), what decides who leaves.
    """

    persons: Tensor
    interest: Tensor
    satiation: Tensor
    satisfaction: Tensor
    requests: Tensor
    devices: Tensor
    ts: Tensor
    history: Tensor

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
        known = params.users + max(1, int(STRANGERS * params.users))
        self.people = make_people(known, params.topics, rng)
        self.users, self.items = self.people.records[: params.users], self.offers.records
        self.n_items = params.items
        self._tabulate()
        self._spec: FeatureSpec | None = None
        if spec is not None:
            self.attach(spec)
        self.seed(seed)

    def _tabulate(self) -> None:
        """Put what the hot path looks up on the device; row N of an item's table is the empty place's."""
        offers, people, nature = self.offers, self.people, self.nature
        after = nature.glad * offers.quality - nature.sorry * offers.bait
        worth = nature.buy + nature.buy_quality * offers.quality - nature.buy_price * (offers.price - 1)
        self._topic = self._table(offers.topic, 0.0)
        self._launch = self._table(offers.launch, NEVER)
        pull = torch.stack([nature.lure * offers.bait, -nature.dear * offers.price.log()], 1)
        self._appeal = self._table(torch.cat([offers.topic, pull], 1), 0.0)
        self._after, self._worth = self._table(after, 0.0), self._table(worth, 0.0)
        self._interest, self._thrift = people.interest.to(self.device), people.thrift.to(self.device)
        self._slopes = torch.tensor(nature.position, device=self.device)
        self._shares = torch.tensor(DEVICE_SHARES, device=self.device).cumsum(0)[:-1]
        minute = torch.arange(MINUTES, device=self.device)
        hour, day = minute / 60 % 24, (minute // (24 * 60) + 3) % 7  # 1970-01-01 was a Thursday
        night = torch.cos((hour - 4) / 24 * math.tau).clamp(min=0)
        self._reserves = nature.reserve + nature.night * night - nature.weekend * (day >= 5)

    def _table(self, values: Tensor, empty: float) -> Tensor:
        return torch.cat([values, torch.full_like(values[:1], empty)]).to(self.device)

    def attach(self, spec: FeatureSpec) -> "GroundTruth":
        """Let ``observe`` see people as a policy does. Items must be those of the specification.

        Raises:
            ValueError: the specification is of another catalogue.
        """
        if spec.item_ids != tuple(item.item_id for item in self.items):
            raise ValueError("the feature specification names other items than this market has")
        self._spec, self._moments = spec, Moments(spec, self.device)
        self._profiles = torch.from_numpy(spec.profiles(self.people.records)).to(self.device)
        return self

    def reset(self, count: int) -> Observation:
        """``count`` people arrive in the two weeks after the log, drawn from the population."""
        self._become(self._arrivals(count))
        return self.observe() if self._spec else {}

    def reset_to(self, persons: Tensor) -> Observation:
        """These people arrive; int64 (B,)."""
        self._become(self._arrivals(len(persons)) | self._minds(persons.to(self.device)))
        return self.observe() if self._spec else {}

    def _arrivals(self, count: int) -> dict[str, Tensor]:
        persons = self._draw(len(self._interest), count)
        ts = EPOCH_US + DAYS * DAY_US + self._draw(DAYS * 24 * 60, count) * MINUTE_US
        uniform = torch.rand(count, generator=self._generator, device=self.device)
        size = self._spec.history if self._spec else 1
        return self._minds(persons) | {
            "devices": torch.bucketize(uniform, self._shares),
            "ts": ts,
            "satisfaction": torch.zeros(count, device=self.device),
            "requests": torch.zeros(count, dtype=torch.int64, device=self.device),
            "history": torch.full((count, size), self.n_items, dtype=torch.int64, device=self.device),
        }

    def _minds(self, persons: Tensor) -> dict[str, Tensor]:
        interest = self._interest.index_select(0, persons)
        return {"persons": persons, "interest": interest, "satiation": torch.zeros_like(interest)}

    def _draw(self, below: int, count: int) -> Tensor:
        return torch.randint(below, (count,), generator=self._generator, device=self.device)

    def observe(self) -> Observation:
        """What a policy sees; needs ``attach`` first."""
        assert self._spec is not None, "attach a FeatureSpec before observing"
        return {
            "profile": self._profiles.index_select(0, self.persons),
            "context": self._moments.contexts(self.devices, self.ts),
            "history": self.history,
        }

    def available(self) -> Tensor:
        """bool (B, N): the items that are launched by each one's clock."""
        return self._launch[:-1] <= self.ts[:, None]

    def utilities(self, slates: Tensor) -> Tensor:
        """float32 (B, k): v_j of each slate's items, "none" at 0, -inf for what cannot be had."""
        pull = (functional.embedding(slates, self._appeal) @ self._wants()[:, :, None])[:, :, 0]
        place = torch.arange(slates.shape[1], device=self.device)
        against = self._slopes[self.devices][:, None] * place + self._reserve()[:, None]
        return (pull - against).masked_fill(self._launch[slates] > self.ts[:, None], -torch.inf)

    def oracle(self, foresight: float) -> Tensor:
        """float32 (B, N): scores that know everything, for measuring regret; -inf what is not launched.

        ``foresight`` 0 orders items by the chance of a click now; above 0 it adds that much of what
        they do to the wish to stay. No policy of this kind is the best one, so regret is understated.
        """
        scores = self._wants() @ self._appeal.T + foresight * self._after
        return scores[:, :-1].masked_fill(~self.available(), -torch.inf)

    def _wants(self) -> Tensor:
        """float32 (B, d + 2): what each person is after now; how much bait counts, and a price."""
        taste = self.nature.fit * self.interest - self.nature.sated * self.satiation
        thrift = self._thrift[self.persons][:, None]
        return torch.cat([taste, torch.ones_like(thrift), thrift], 1)

    def _reserve(self) -> Tensor:
        """float32 (B,): how far an item has to please before it is clicked at all."""
        return self._reserves[self.ts // MINUTE_US % MINUTES]

    @torch.no_grad()
    def step(self, slates: Tensor) -> Outcome:
        """Show int64 (B, k) slates; an item that is not launched yet is an empty place.

        Raises:
            ValueError: slates of another shape, or that name items beyond N.
        """
        slates = self._shown(slates, len(self.persons))
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
        fit = (self.interest * self._topic.index_select(0, item)).sum(1)
        return self.nature.buy_fit * fit + self._worth[item]

    def _live_on(self, item: Tensor, clicked: Tensor) -> None:
        """What a request leaves behind in each person."""
        nature, topic, acted = self.nature, self._topic.index_select(0, item), clicked[:, None]
        felt = torch.where(clicked, self._after[item], -nature.bored)
        self.satisfaction = nature.keep * self.satisfaction + felt
        unit = self.interest / self.interest.norm(dim=1, keepdim=True)
        self.interest = self.interest + nature.drift * acted * (topic - unit)
        self.satiation = nature.rest * self.satiation + nature.tiring * acted * topic
        self.history = push(self.history, item, clicked)
        self.requests = self.requests + 1
        self.ts = self.ts + REQUEST_US

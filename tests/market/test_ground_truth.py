"""The ground truth against its own equations, and what makes it worth learning in."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.features import FeatureSpec
from recloop.market import GroundTruth, Market, Nature
from recloop.market.interface import choose, happens, push
from recloop.market.log import generate_log
from recloop.market.population import DAY_US, DAYS, EPOCH_US, make_offers, make_people
from recloop.policy import Sampler, most_popular, uniform
from recloop.settings import load_params
from recloop.settings.params import MarketParams, RewardParams

AFTER = EPOCH_US + DAYS * DAY_US  # a Thursday, when the log has ended
REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)


def test_choices_follow_the_multinomial_logit() -> None:
    utility = torch.tensor([0.5, -1.0, 1.2])
    count = 200_000
    drawn = choose(utility.expand(count, 3), torch.Generator().manual_seed(1))
    seen = torch.bincount(drawn + 1, minlength=4).double() / count
    weight = torch.cat([torch.ones(1), utility.exp()]).double()
    expected = weight / weight.sum()
    assert ((seen - expected).abs() < 4.5 * (expected * (1 - expected) / count).sqrt()).all()


def test_what_cannot_be_chosen_never_is_and_only_padding_leaves_none() -> None:
    utility = torch.tensor([[-torch.inf, 1.0], [-torch.inf, -torch.inf]])
    for seed in range(50):
        drawn = choose(utility, torch.Generator().manual_seed(seed))
        assert drawn[0] in (-1, 1)
        assert drawn[1] == -1


def test_events_happen_as_often_as_their_log_odds_say() -> None:
    rate = happens(torch.full((100_000,), -1.5), torch.Generator().manual_seed(2)).double().mean()
    assert float(rate) == pytest.approx(1 / (1 + math.exp(1.5)), abs=0.006)


def test_a_history_moves_where_it_should() -> None:
    history = torch.tensor([[1, 2, 9], [3, 9, 9]])
    moved = push(history, torch.tensor([7, 8]), torch.tensor([True, False]))
    assert moved.tolist() == [[7, 1, 2], [3, 9, 9]]


def test_utilities_are_those_of_the_equations(market: GroundTruth) -> None:
    market.reset_to(torch.arange(6))
    market.devices = torch.tensor([0, 1, 2, 0, 1, 2])
    market.ts = torch.full((6,), AFTER + 16 * DAY_US // 24)  # Thursday, 16 h: no night at all
    market.satiation = torch.rand(6, 8, generator=torch.Generator().manual_seed(1))
    slates = torch.tensor([[4, 9, 2, 7]]).repeat(6, 1)
    found = market.utilities(slates)
    nature, offers = Nature(), market.offers
    for b in range(6):
        for j, i in enumerate([4, 9, 2, 7]):
            expected = (
                nature.fit * market.interest[b] @ offers.topic[i]
                + nature.lure * offers.bait[i]
                - nature.dear * market.people.thrift[b] * math.log(offers.price[i])
                - nature.sated * market.satiation[b] @ offers.topic[i]
                - nature.position[int(market.devices[b])] * j
                - nature.reserve
            )
            assert float(found[b, j]) == pytest.approx(float(expected), abs=1e-4)


def test_a_lower_position_costs_clicks_and_so_does_the_night(market: GroundTruth) -> None:
    market.reset_to(torch.arange(20))
    market.ts = torch.full((20,), AFTER + 4 * DAY_US // 24)
    night = market.utilities(torch.full((20, 4), 5))
    slope = torch.tensor(Nature().position)[market.devices]
    torch.testing.assert_close(night[:, 0] - night[:, 3], 3 * slope)
    market.ts = torch.full((20,), AFTER + 16 * DAY_US // 24)
    day = market.utilities(torch.full((20, 4), 5))
    torch.testing.assert_close(day - night, torch.full_like(day, Nature().night))
    market.ts = market.ts + 2 * DAY_US
    saturday = market.utilities(torch.full((20, 4), 5))
    torch.testing.assert_close(saturday - day, torch.full_like(day, Nature().weekend))
    market.ts = market.ts + 2 * DAY_US
    torch.testing.assert_close(market.utilities(torch.full((20, 4), 5)), day)


def test_a_price_keeps_the_thrifty_away_more_than_others(market: GroundTruth) -> None:
    thrift = market.people.thrift
    low, high = int(thrift.argmin()), int(thrift.argmax())
    market.reset_to(torch.tensor([low, high]))
    market.interest = torch.ones(2, 8)
    market.devices = torch.zeros(2, dtype=torch.int64)
    market.ts = torch.full((2,), AFTER)
    item = int(market.offers.price.argmax())
    careless, thrifty = market.utilities(torch.tensor([[item], [item]]))[:, 0]
    gap = Nature().dear * float((thrift[high] - thrift[low]) * market.offers.price[item].log())
    assert gap > 0.1
    assert float(careless - thrifty) == pytest.approx(gap, abs=1e-4)
    young = torch.tensor([u.age is not None and u.age < 40 for u in market.people.records])
    assert thrift[young].mean() > thrift[~young].mean()


def test_before_its_launch_an_item_is_an_empty_place(market: GroundTruth) -> None:
    launch = market.offers.launch
    new = int(launch.argmax())
    assert EPOCH_US < launch[new] < AFTER
    assert market.items[new].created_at == launch[new]
    market.reset_to(torch.arange(40))
    market.ts = torch.full((40,), int(launch[new]) - 40_000_000)
    slates = torch.tensor([[new, 30]]).repeat(40, 1)
    assert not market.available()[:, new].any()
    assert (market.oracle(1.0)[:, new] == -torch.inf).all()
    assert (market.utilities(slates) == -torch.inf).all()
    assert (market.step(slates).clicked == -1).all()
    assert market.available()[:, new].all(), "40 s later it is there"
    assert torch.isfinite(market.utilities(slates)[:, 0]).all()
    market.reset(40)
    assert market.available().all(), "people who come after the log find everything"


def test_some_who_come_are_strangers_to_the_log(market: GroundTruth) -> None:
    assert len(market.users) == 120
    assert len(market.people.records) == 132
    market.reset(5000)
    share = float((market.persons >= 120).double().mean())
    assert share == pytest.approx(12 / 132, abs=0.02)
    assert (market.ts >= AFTER).all()


def test_a_person_is_the_same_alone_and_in_a_crowd(market: GroundTruth) -> None:
    generator = torch.Generator().manual_seed(5)
    slates = torch.randint(30, (20, 4), generator=generator)
    market.reset_to(torch.arange(20))
    devices, ts = market.devices, market.ts
    item, clicked = slates[:, 1], torch.rand(20, generator=generator) < 0.5
    together = market.utilities(slates), market.purchase_logit(item)
    market._live_on(item, clicked)
    felt = market.satisfaction, market.interest, market.satiation
    for b in range(20):
        one = slice(b, b + 1)
        market.reset_to(torch.tensor([b]))
        market.devices, market.ts = devices[one], ts[one]
        torch.testing.assert_close(market.utilities(slates[one])[0], together[0][b])
        torch.testing.assert_close(market.purchase_logit(item[one])[0], together[1][b])
        market._live_on(item[one], clicked[one])
        for alone, crowd in zip((market.satisfaction, market.interest, market.satiation), felt, strict=True):
            torch.testing.assert_close(alone[0], crowd[b])


def test_satisfaction_pays_for_bait_and_decides_who_leaves(market: GroundTruth) -> None:
    nature, count = Nature(), 40_000
    market.reset(count)
    item = int(market.offers.bait.argmax())
    outcome = market.step(torch.full((count, 4), item))
    clicked = outcome.clicked >= 0
    after = nature.glad * market.offers.quality[item] - nature.sorry * market.offers.bait[item]
    torch.testing.assert_close(market.satisfaction[clicked], after.expand(int(clicked.sum())))
    assert (market.satisfaction[~clicked] == -nature.bored).all()
    for group in (clicked, ~clicked):
        expected = torch.sigmoid(nature.leave - nature.patience * market.satisfaction[group][0])
        tolerance = 4.5 * float((expected * (1 - expected) / group.sum()).sqrt())
        assert float(outcome.done[group].double().mean()) == pytest.approx(float(expected), abs=tolerance)


def test_the_same_seed_is_the_same_market_and_another_is_not(market: GroundTruth) -> None:
    def trace(seed: int) -> list[float]:
        market.seed(seed)
        market.reset(50)
        slates = torch.arange(4).repeat(50, 1)
        return [float(market.step(slates).reward.sum()) for _ in range(8)]

    assert trace(11) == trace(11)
    assert trace(11) != trace(12)
    offers = make_offers(30, 8, np.random.default_rng([3, 1]))
    assert offers.records == market.items
    assert torch.equal(offers.quality, market.offers.quality)
    assert (
        make_people(9, 8, np.random.default_rng(1)).records
        != make_people(9, 8, np.random.default_rng(2)).records
    )


def test_only_those_who_left_are_replaced(market: GroundTruth) -> None:
    market.reset(40)
    market.step(torch.arange(4).repeat(40, 1))
    gone = torch.arange(40) % 3 == 0
    before = {name: x.clone() for name, x in market.observe().items()} | {"felt": market.satisfaction.clone()}
    market.arrive(gone)
    after = market.observe() | {"felt": market.satisfaction}
    for name, old in before.items():
        torch.testing.assert_close(after[name][~gone], old[~gone])
    assert (market.requests[gone] == 0).all()
    assert (market.requests[~gone] == 1).all()
    assert (market.satisfaction[gone] == 0).all()
    assert (market.history[gone] == 30).all()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 6), st.integers(1, 40), st.integers(2, 25))
def test_every_step_keeps_its_promises(seed: int, k: int, count: int, items: int) -> None:
    params = MarketParams(users=50, items=items, topics=8, horizon=6, slate=k, behaviour_temperature=1)
    market: Market = GroundTruth(params, REWARD, seed=1)
    assert isinstance(market, GroundTruth)
    market.seed(seed)
    market.reset(count)
    slates = torch.randint(items, (count, k), generator=torch.Generator().manual_seed(seed))
    for step in range(1, params.horizon + 1):
        history = market.history.clone()
        outcome = market.step(slates)
        clicked = outcome.clicked >= 0
        assert outcome.clicked.dtype == torch.int64
        assert ((outcome.clicked >= -1) & (outcome.clicked < k)).all()
        assert not (outcome.bought & ~clicked).any()
        torch.testing.assert_close(outcome.reward, clicked * 1.0 + outcome.bought * 4.0)
        shown = slates.gather(1, outcome.clicked.clamp(min=0)[:, None])[:, 0]
        assert torch.equal(market.history[:, 0], torch.where(clicked, shown, history[:, 0]))
        assert torch.isfinite(market.satisfaction).all()
        assert (outcome.done.all() and step == params.horizon) or step < params.horizon


def test_it_must_be_told_how_to_be_seen_and_by_whom(market: GroundTruth) -> None:
    unseen = GroundTruth(market.params, REWARD, seed=3)
    with pytest.raises(AssertionError, match="FeatureSpec"):
        unseen.observe()
    spec = market._spec
    assert isinstance(spec, FeatureSpec)
    with pytest.raises(ValueError, match="other items"):
        unseen.attach(spec.model_copy(update={"item_ids": spec.item_ids[1:]}))
    observation = unseen.attach(spec).reset(7)
    assert {name: (tuple(x.shape), x.dtype) for name, x in observation.items()} == {
        "profile": ((7, spec.profile_size), torch.float32),
        "context": ((7, spec.context_size), torch.float32),
        "history": ((7, 5), torch.int64),
    }


def value(market: GroundTruth, scores: "Sampler | float", people: int = 500) -> tuple[np.ndarray, np.ndarray]:
    """Return and length of one session each, of a sampler or of the oracle with a foresight."""
    market.seed(21)
    rng = np.random.default_rng(21)
    market.reset(people)
    alive, total, length = np.ones(people, bool), np.zeros(people), np.zeros(people)
    nothing = {"profile": np.zeros((people, 0))}
    while alive.any():
        if isinstance(scores, Sampler):
            slates = scores.slates(nothing, market.params.slate, rng).items
        else:
            oracle = Sampler(lambda _: market.oracle(scores).numpy(), temperature=0.1, exploration=0.05)
            slates = oracle.slates(nothing, market.params.slate, rng).items
        outcome = market.step(torch.from_numpy(slates))
        total += alive * outcome.reward.numpy()
        length += alive
        alive &= ~outcome.done.numpy()
    return total, length


@pytest.mark.parametrize("seed", [7, 8])
def test_clicks_now_cost_more_than_they_bring(seed: int) -> None:
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    market = GroundTruth(params.market, params.reward, seed)
    popularity, requests = np.zeros(params.market.items), 0
    index = {item.item_id: i for i, item in enumerate(market.items)}
    for shown, acts in generate_log(market, seed):
        requests += len(shown) // params.market.slate
        for act in acts:
            popularity[index[act.item_id]] += act.kind == "click"
    sessions = params.market.users * 1.7
    assert 8 <= requests / sessions <= 12
    myopic, far = value(market, 0.0)[0], value(market, 4.0)[0]
    popular = value(market, most_popular(popularity, 0.1, 0.05))[0]
    anything = value(market, uniform(params.market.items))[0]

    def lower_end(better: np.ndarray, worse: np.ndarray) -> float:
        gap = better - worse
        return float(gap.mean() - 1.96 * gap.std() / len(gap) ** 0.5)

    assert lower_end(far, 1.5 * myopic) > 0
    assert lower_end(myopic, popular) > 0
    assert lower_end(far, 2 * anything) > 0


def test_chasing_clicks_loses_in_the_long_run_in_every_market() -> None:
    """Of two that know everything, the one without foresight is first ahead in clicks, and then alone."""
    params = load_params(Path(__file__).parents[2] / "params.yaml")
    gaps, firsts = [], []
    for seed in range(200, 206):
        market = GroundTruth(params.market, params.reward, seed)
        firsts.append(clicks_at_once(market, 0.0) - clicks_at_once(market, 4.0))
        (greedy, stayed), (far, longer) = (value(market, foresight, 300) for foresight in (0.0, 4.0))
        assert longer.mean() > 1.5 * stayed.mean()
        gaps.append(np.log(far.mean() / greedy.mean()))
    assert min(firsts) > 0, "at first, bait pays"
    low = np.mean(gaps) - 2.57 * np.std(gaps, ddof=1) / len(gaps) ** 0.5  # Student's, 5 degrees of freedom
    assert low > math.log(2)


def clicks_at_once(market: GroundTruth, foresight: float) -> float:
    """Share of people who click on the best slate of the first request."""
    market.seed(5)
    market.reset(20_000)
    return float((market.step(market.oracle(foresight).topk(5, 1).indices).clicked >= 0).double().mean())

"""RecSim's task against its own laws, and against a plain simulation of one person at a time."""

import math

import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env

from recloop.market import InterestEvolution, Market, SinglePerson
from recloop.market.interest_evolution import BONUS, TOPICS

MEANS = np.concatenate([np.linspace(-3, 0, 14), np.linspace(0, 3, 6)])


@pytest.fixture(scope="module")
def task() -> InterestEvolution:
    return InterestEvolution(seed=1, items=5000)


def top(task: InterestEvolution, score: torch.Tensor, k: int = 2) -> torch.Tensor:
    """The k candidates of the highest score."""
    return task.candidates.gather(1, score.topk(k, 1).indices)


def play(task: InterestEvolution, people: int, seed: int, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return and length of one session each."""
    task.seed(seed)
    task.reset(people)
    noise = torch.Generator().manual_seed(seed)
    total, length, alive = torch.zeros(people), torch.zeros(people), torch.ones(people, dtype=torch.bool)
    while alive.any():
        liking = task.interests.gather(1, task.topic[task.candidates])
        score = {
            "random": torch.rand(people, 10, generator=noise),
            "myopic": liking,
            "far": liking + task.quality[task.candidates],
        }[kind]
        outcome = task.step(top(task, score))
        total += alive * outcome.reward
        length += alive
        alive &= ~outcome.done
    return total, length


def plain_session(rng: np.random.Generator) -> float:
    """One person, one step at a time, new videos at every step, two of ten at random."""
    interest, budget, watched = rng.uniform(-1, 1, TOPICS), 200.0, 0.0
    while budget > 0:
        topics = rng.integers(0, TOPICS, 10)
        quality = rng.normal(MEANS[topics], 0.1)
        slate = rng.permutation(10)[:2]
        mass = np.append(interest[topics[slate]] + 1, 2.0)
        place = rng.choice(3, p=mass / mass.sum())
        if place == 2:
            budget -= 0.5
            continue
        t, q = topics[slate[place]], quality[slate[place]]
        minutes = min(budget, 4.0)
        watched += minutes
        x = interest[t]
        update = (-0.3 * abs(x) + 0.3) * (1 - x)
        interest[t] = np.clip(x + update if rng.random() < (x + 1) / 2 else x - update, -1, 1)
        budget += minutes * (0.9 / 3.4 * q - 1)
    return watched


def test_the_corpus_is_recsims(task: InterestEvolution) -> None:
    assert task.features.sum(1).eq(1).all()
    assert torch.equal(task.features.argmax(1), task.topic)
    share = torch.bincount(task.topic, minlength=TOPICS).double() / 5000
    assert (share - 1 / TOPICS).abs().max() < 4.5 * math.sqrt(0.05 * 0.95 / 5000)
    for t in range(TOPICS):
        quality = task.quality[task.topic == t].double()
        assert float(quality.mean()) == pytest.approx(MEANS[t], abs=4.5 * 0.1 / len(quality) ** 0.5)
        assert float(quality.std()) == pytest.approx(0.1, rel=0.3)
    assert pytest.approx(-0.6) == MEANS.mean()


def test_a_person_begins_with_even_interests_and_200_minutes(task: InterestEvolution) -> None:
    observation = task.reset(20_000)
    assert (task.budget == 200).all()
    interests = observation["profile"].double()
    assert float(interests.mean()) == pytest.approx(0, abs=0.005)
    assert float(interests.var()) == pytest.approx(1 / 3, abs=0.005)
    candidates = observation["candidates"]
    assert candidates.shape == (20_000, 10)
    assert (candidates.sort(1).values.diff() > 0).all(), "ten different videos"
    counts = torch.bincount(candidates.flatten(), minlength=5000).double()
    assert counts.mean() == 40
    assert float(counts.var()) == pytest.approx(40, rel=0.1), "each video as often as any other"


@pytest.mark.parametrize(
    ("choice", "masses"),
    [("proportional", (1.5, 0.2, 2.0)), ("logit", (math.exp(0.5), math.exp(-0.8), math.e))],
)
def test_choices_follow_recsims_masses(choice: str, masses: tuple[float, ...]) -> None:
    task = InterestEvolution(seed=1, choice=choice)  # type: ignore[arg-type]
    count = 100_000
    task.reset(count)
    first, second = int(task.topic[0]), int((task.topic != task.topic[0]).nonzero()[0])
    task.interests = torch.zeros(count, TOPICS)
    task.interests[:, first], task.interests[:, int(task.topic[second])] = 0.5, -0.8
    task.candidates[:, 0], task.candidates[:, 1] = 0, second
    drawn = task.step(torch.tensor([[0, second]]).repeat(count, 1)).clicked
    seen = np.array([float((drawn == place).double().mean()) for place in (0, 1, -1)])
    assert seen == pytest.approx(np.array(masses) / sum(masses), abs=0.007)


def test_budget_and_interest_move_as_the_equations_say(task: InterestEvolution) -> None:
    task.reset(4000)
    task.budget = torch.where(torch.arange(4000) % 2 == 0, 200.0, 3.0)
    interests, budget = task.interests.clone(), task.budget.clone()
    slates = task.candidates[:, :2]
    outcome = task.step(slates)
    clicked = outcome.clicked >= 0
    item = slates.gather(1, outcome.clicked.clamp(min=0)[:, None])[:, 0]
    assert 0.3 < float(clicked.double().mean()) < 0.7
    watched = budget.clamp(max=4.0)
    torch.testing.assert_close(outcome.reward, watched * clicked)
    won = watched * (BONUS * task.quality[item] - 1)
    torch.testing.assert_close(task.budget, budget + torch.where(clicked, won, torch.tensor(-0.5)))
    assert torch.equal(outcome.done, task.budget <= 0)
    moved = task.interests - interests
    assert ((moved != 0).sum(1) <= clicked.long()).all(), "one topic, of those who watched"
    x = interests.gather(1, task.topic[item][:, None])[:, 0]
    size = 0.3 * (1 - x.abs()) * (1 - x)
    there = task.interests.gather(1, task.topic[item][:, None])[:, 0]
    up, down = (x + size).clamp(-1, 1), (x - size).clamp(-1, 1)
    off = torch.minimum((there - up).abs(), (there - down).abs())[clicked]
    assert off.max() < 1e-6
    for low in (-0.9, -0.2, 0.5):
        group = clicked & (x > low) & (x < low + 0.3)
        rose = (there[group] > x[group]).double().mean()
        assert float(rose) == pytest.approx(float((x[group] + 1).mean() / 2), abs=0.12)


def test_a_random_policy_earns_what_a_plain_simulation_does(task: InterestEvolution) -> None:
    rng = np.random.default_rng(3)
    plain = np.array([plain_session(rng) for _ in range(250)])
    ours = play(task, 3000, 5, "random")[0].double()
    error = (plain.var() / len(plain) + float(ours.var()) / len(ours)) ** 0.5
    assert float(ours.mean()) == pytest.approx(plain.mean(), abs=4 * error)
    assert error < 2


def test_looking_ahead_beats_liking_which_beats_chance(task: InterestEvolution) -> None:
    means = [float(play(task, 1500, 6, kind)[0].mean()) for kind in ("random", "myopic", "far")]
    assert means[0] < means[2]
    assert means[1] < means[2] - 5


def test_what_is_no_candidate_is_an_empty_place(task: InterestEvolution) -> None:
    task.reset(200)
    others = (task.candidates.max(1).values + 1) % 5000
    others = torch.where((task.candidates == others[:, None]).any(1), task.n_items, others)
    outcome = task.step(torch.stack([others, torch.full_like(others, 5000)], 1))
    assert (outcome.clicked == -1).all()
    assert (outcome.reward == 0).all()


def test_it_is_a_market_and_gymnasium_accepts_it() -> None:
    market: Market = InterestEvolution(seed=2, items=40)
    check_env(SinglePerson(market, slate=2), skip_render_check=True)
    with pytest.raises(ValueError, match="at least 10"):
        InterestEvolution(seed=1, items=9)

"""Seeds, several processes and their loss, numbers that are none, masks, and large catalogues."""

import time

import numpy as np
import pytest
import ray
import torch

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.log import LoggedRows, UnusableLogError, returns
from recloop.agents.network import Shape
from recloop.agents.plackett_luce import draw, log_probability
from recloop.agents.replay import Replay
from recloop.agents.returns import advantages, n_step, v_trace
from recloop.agents.runner import NotFiniteError
from recloop.agents.tables import TableError
from recloop.market.interface import Outcome
from tests.agents.mazes import (
    ACTIONS,
    ENDS,
    GAMMA,
    NEXT,
    PAYS,
    SHAPE,
    STATES,
    Maze,
    agent,
    exact,
    learnt,
    log,
    of_policy,
    rows,
)

UNIFORM = np.full((STATES, ACTIONS), 1 / ACTIONS)


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster(workers=4):
        yield


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_the_same_seed_learns_the_same(name):
    found = []
    for _ in range(2):
        algorithm = build(agent(name), 3, SHAPE, Maze, rows(UNIFORM, 20))
        found.append(learnt(algorithm, 3000))
        algorithm.stop()
    np.testing.assert_array_equal(*found)


SLOWER = [pytest.param(name, marks=pytest.mark.slow) for name in ("slateq", "ensemble")]


@pytest.mark.parametrize("name", ["dqn", "ppo", "marwil", *SLOWER])
def test_two_learners_give_what_one_gives(name):
    """To a thousandth of the values' size, after some dozens of updates."""
    found = []
    for learners in (0, 2):
        chosen = agent(name, num_learners=learners, learning_rate=0.001)
        algorithm = build(chosen, 1, SHAPE, Maze, rows(UNIFORM, 20))
        found.append(learnt(algorithm, 2000))
        algorithm.stop()
    scale = np.abs(found[0]).max()
    np.testing.assert_allclose(*found, atol=1e-3 * scale)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dqn", "impala", "ppo"])
def test_two_remote_env_runners_and_two_remote_learners_learn_too(name):
    chosen = agent(name, num_env_runners=2, num_learners=2, learning_rate=0.003 if name == "dqn" else 0.01)
    algorithm = build(chosen, 1, SHAPE, Maze)
    wanted, worth = 0.85 * exact().max(1).mean(), 0.0
    for steps in (60_000, 120_000, 240_000) if name == "impala" else (60_000,):
        if worth <= wanted:  # the more the machine has to do, the older are the weights that impala acts by
            greedy = np.eye(ACTIONS)[learnt(algorithm, steps).argmax(1)]
            worth = (greedy * of_policy(greedy)).sum(1).mean()
    assert worth > wanted
    algorithm.stop()


@pytest.mark.parametrize("name", ["dqn", "impala"])
def test_a_lost_env_runner_is_replaced(name):
    algorithm = build(agent(name, num_env_runners=2), 1, SHAPE, Maze)
    learnt(algorithm, 2000)
    victims = algorithm.env_runner_group._worker_manager.actors()
    ray.kill(victims[1], no_restart=False)
    for _ in range(40):
        algorithm.step()
    end = time.monotonic() + 200  # a busy machine may need long to start a process
    while algorithm.env_runner_group.num_healthy_remote_env_runners() < 2 and time.monotonic() < end:
        algorithm.step()
    assert algorithm.env_runner_group.num_healthy_remote_env_runners() == 2
    before = algorithm.env_steps
    algorithm.step()
    assert algorithm.env_steps > before
    algorithm.stop()


def test_a_reward_that_is_no_number_stops_the_training():
    algorithm = build(agent("dqn"), 1, SHAPE, lambda: Maze(np.full_like(PAYS, np.nan)))
    with pytest.raises(NotFiniteError, match="not finite"):
        algorithm.step()
    algorithm.stop()


@pytest.mark.slow
def test_the_fault_of_a_remote_env_runner_is_told():
    algorithm = build(agent("dqn", num_env_runners=1), 1, SHAPE, lambda: Maze(np.full_like(PAYS, np.nan)))
    with pytest.raises(NotFiniteError, match="not finite"):
        algorithm.step()
    algorithm.stop()


def test_training_that_diverges_says_so():
    algorithm = build(agent("ppo", learning_rate=1e30), 1, SHAPE, Maze)
    with pytest.raises(NotFiniteError, match=r"diverged. Lower agent\.learning_rate"):
        for _ in range(20):
            algorithm.step()
    algorithm.stop()


def test_epsilon_falls_linearly_and_then_stays():
    algorithm = build(agent("dqn", env_steps=1000), 1, SHAPE, Maze)
    seen = []
    for steps in (0, 250, 500, 1000):
        algorithm.env_steps = steps
        seen.append(algorithm.epsilon)
    assert seen == pytest.approx([1.0, 0.65, 0.3, 0.3])
    algorithm.stop()


class Masked(Maze):
    """Says what may be shown in each state, and notes what was."""

    allowed = torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 1, 0]], dtype=torch.bool)

    def observe(self) -> dict[str, torch.Tensor]:
        return super().observe() | {"allowed": self.allowed[self.state]}

    def step(self, slates: torch.Tensor):
        assert self.allowed[self.state].gather(1, slates[:, :1]).all(), "showed what is not allowed"
        return super().step(slates)


class Offered(Maze):
    """Offers two items of the three, drawn for each person, in an order of its own."""

    def observe(self) -> dict[str, torch.Tensor]:
        luck = torch.rand(len(self.state), ACTIONS, generator=self._generator)
        self.offer = luck.argsort(1)[:, :2]
        return super().observe() | {"candidates": self.offer}

    def step(self, slates: torch.Tensor):
        assert (slates[:, :1] < ACTIONS).all()
        return super().step(slates)


ONLINE = [name for name, kind in ALGORITHMS.items() if not kind.from_log]


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("market", [Masked, Offered])
def test_what_may_not_be_shown_never_is(name, market):
    algorithm = build(agent(name), 1, SHAPE, market)
    learnt(algorithm, 4000)
    algorithm.stop()


def test_masked_values_are_those_of_the_smaller_process():
    algorithm = build(agent("dqn"), 1, SHAPE, Masked)
    found = learnt(algorithm)
    algorithm.stop()
    allowed = Masked.allowed.numpy()
    q = np.zeros((STATES, ACTIONS))
    for _ in range(500):
        q = PAYS + GAMMA * ~ENDS * np.where(allowed, q, -np.inf).max(1)[NEXT]
    np.testing.assert_allclose(found[allowed], q[allowed], atol=0.06 * np.ptp(q))


@pytest.mark.parametrize("name", ["q_learning", "dqn", "ensemble"])
def test_values_count_on_what_will_be_offered_and_no_more(name):
    algorithm = build(agent(name, ensemble={"combine": "mean"}), 1, SHAPE, Offered)
    found = learnt(algorithm)
    algorithm.stop()
    q = np.zeros((STATES, ACTIONS))
    for _ in range(500):
        best = np.mean([q[:, list(pair)].max(1) for pair in ((0, 1), (0, 2), (1, 2))], axis=0)
        q = PAYS + GAMMA * ~ENDS * best[NEXT]
    if name == "q_learning":
        np.testing.assert_allclose(found, q, atol=0.05 * np.ptp(q))
    centred, wanted = (x - x.mean(1, keepdims=True) for x in (found, q))
    np.testing.assert_allclose(centred, wanted, atol=0.08 * np.ptp(q))
    assert abs(found.mean() - q.mean()) < 0.25 * abs(exact().mean() - q.mean()) + 0.1


def test_an_item_that_is_sold_out_is_not_shown_while_learning():
    class NoFirst(Maze):
        def step(self, slates: torch.Tensor):
            assert (slates[:, 0] != 0).all()
            return super().step(slates)

    shape = Shape(SHAPE.features, 1, STATES, 1, np.array([False, True, True]))
    for name in ONLINE:
        algorithm = build(agent(name), 1, shape, NoFirst)
        learnt(algorithm, 1000)
        algorithm.stop()


class Shelf(Maze):
    """Many items, of which the first tenth pays."""

    n_items = 600

    def step(self, slates: torch.Tensor):
        good = slates[:, 0] < self.n_items // 10
        luck = torch.rand(2, len(good), generator=self._generator)
        taken = luck[0] < torch.where(good, 0.7, 0.3)
        reward = taken * torch.where(good, 1.0, 0.1)
        return Outcome(taken.long() - 1, torch.zeros_like(good), reward, luck[1] < 0.2)


@pytest.mark.parametrize("name", [n for n in ALGORITHMS if n not in ("q_learning", "lin_ucb", "thompson")])
def test_a_large_catalogue_learns_from_candidates(name):
    """Above ``full_catalogue`` items some are drawn for each round; what pays is found among all."""
    features = np.zeros((Shelf.n_items, 2), np.float32)
    features[: Shelf.n_items // 10, 0] = features[Shelf.n_items // 10 :, 1] = 1
    chosen = agent(
        name, gamma=0.5, env_steps=24_000, network={"full_catalogue": 100, "candidates": 50},
        learning_rate=0.01, value={"epsilon_end": 0.1}, logs={"conservatism": 0.01},
    )  # fmt: skip
    generator = np.random.default_rng(0)
    steps = log(UNIFORM, 300)
    item = generator.integers(Shelf.n_items, size=(len(steps), 1))
    changed = vars(steps) | {
        "slate": item, "propensity": np.full(item.shape, 1 / Shelf.n_items),
        "reward": (item[:, 0] < Shelf.n_items // 10).astype(np.float32),
    }  # fmt: skip
    shelf = LoggedRows.of(type(steps)(**changed), Shelf.n_items, 0.5)
    algorithm = build(chosen, 1, Shape(features, 1, STATES, 1), Shelf, shelf)
    found = learnt(algorithm, 24_000 if name in ONLINE else 200_000)
    algorithm.stop()
    if name == "bc":
        return  # it imitates a log that shows all alike
    assert (np.argsort(-found, 1)[:, :10] < Shelf.n_items // 10).mean() > 0.8


def test_what_keeps_numbers_by_item_refuses_a_catalogue_that_is_too_large():
    many = Shape(np.zeros((100_000, 40), np.float32), 1, STATES, 1)
    for name, said in (("q_learning", "100001 x 100000 cells"), ("lin_ucb", "each of 100000 items")):
        with pytest.raises(TableError, match=said):
            build(agent(name, network={"full_catalogue": 10**6}), 1, many, Shelf)


def test_a_single_item_is_all_that_can_be_learnt_about():
    class One(Maze):
        n_items = 1

        def observe(self) -> dict[str, torch.Tensor]:
            return super().observe() | {"history": torch.zeros_like(self.state[:, None])}

    for name in ONLINE:
        algorithm = build(agent(name, slate=3), 1, Shape(np.ones((1, 2), np.float32), 1, STATES, 1), One)
        found = learnt(algorithm, 1500)
        assert found.shape == (STATES, 1)
        assert np.isfinite(found).all()
        algorithm.stop()


def test_replay_keeps_the_newest_and_samples_all_of_it():
    replay = Replay(10, 0)
    for start in range(0, 24, 4):
        replay.add({"x": torch.arange(start, start + 4), "y": torch.arange(start, start + 4) * 2.0})
    _, drawn = replay.draw(2000, 0.0)
    assert set(drawn["x"].tolist()) == set(range(14, 24))
    assert torch.equal(drawn["y"], drawn["x"] * 2.0)


def test_replay_draws_by_priority_and_corrects_for_it():
    replay = Replay(10, 0, exponent=1.0)
    replay.add({"x": torch.arange(10)})
    error = torch.arange(10, dtype=torch.float32)
    replay.note(torch.arange(10), error)
    places, drawn = replay.draw(100_000, 1.0)
    share = np.bincount(places.numpy(), minlength=10) / 100_000
    mass = error.numpy() + 1e-3
    np.testing.assert_allclose(share, mass / mass.sum(), atol=0.005)
    wanted = (1 / mass[places]) / (1 / mass[places]).max()
    np.testing.assert_allclose(drawn["weight"], wanted, rtol=1e-4)
    assert torch.equal(drawn["x"], places)


@pytest.mark.parametrize("count", [63, 64, 65, 500])
def test_priorities_are_drawn_alike_across_their_blocks(count):
    """Against the distribution itself, after the ring has turned and priorities were set twice."""
    replay, luck = Replay(500, 0, exponent=0.5), torch.Generator().manual_seed(1)
    for _ in range(2 if count == 500 else 1):
        replay.add({"x": torch.arange(count)})
    error = torch.rand(count, generator=luck) ** 4
    for _ in range(2):
        replay.note(torch.randperm(count, generator=luck).repeat(2) % count, torch.rand(2 * count))
        replay.note(torch.arange(count), error)
    places, _ = replay.draw(200_000, 0.0)
    share = np.bincount(places.numpy(), minlength=count) / 200_000
    mass = np.sqrt(error.numpy() + 1e-3)
    wanted = mass / mass.sum()
    assert len(share) == count
    np.testing.assert_allclose(share, wanted, atol=5 * np.sqrt(wanted.max() / 200_000))
    statistic = 200_000 * np.sum((share - wanted) ** 2 / wanted)
    assert statistic < count - 1 + 5 * np.sqrt(2 * (count - 1))


def test_longer_returns_stop_where_people_leave():
    rollout = {
        "reward": torch.tensor([[1.0], [2.0], [4.0], [8.0]]),
        "done": torch.tensor([[False], [True], [False], [False]]),
        "next_x": torch.tensor([[10], [11], [12], [13]]),
    }
    found = n_step(rollout, 3, 0.5)
    assert found["reward"].tolist() == [2.0, 2.0, 8.0, 8.0]
    assert found["discount"].tolist() == [0.0, 0.0, 0.25, 0.5]
    assert found["next_x"].tolist() == [11, 11, 13, 13]


def test_advantages_are_those_of_their_definition():
    generator = torch.Generator().manual_seed(0)
    reward, value = (torch.randn(7, 3, generator=generator) for _ in range(2))
    done = torch.rand(7, 3, generator=generator) < 0.3
    beyond = torch.randn(3, generator=generator)
    found = advantages(reward, done, value, beyond, 0.9, 0.8)
    for b in range(3):
        for t in range(7):
            total, weight = 0.0, 1.0
            for u in range(t, 7):
                ahead = 0.0 if done[u, b] else float(value[u + 1, b] if u < 6 else beyond[b])
                total += weight * float(reward[u, b] + 0.9 * ahead - value[u, b])
                if done[u, b]:
                    break
                weight *= 0.9 * 0.8
            assert float(found[t, b]) == pytest.approx(total, abs=1e-5)


def test_v_trace_on_its_own_policy_is_the_discounted_return():
    reward, value = torch.ones(5, 2), torch.randn(5, 2)
    done = torch.zeros(5, 2, dtype=torch.bool)
    target, _ = v_trace(torch.zeros(5, 2), reward, done, value, torch.full((2,), 7.0), 0.5)
    wanted = [sum(0.5**i for i in range(5 - t)) + 0.5 ** (5 - t) * 7 for t in range(5)]
    np.testing.assert_allclose(target[:, 0], wanted, rtol=1e-5)


def test_slates_are_drawn_as_often_as_their_probability_says():
    logits = torch.tensor([[1.0, 0.0, -1.0, 0.5]])
    luck = torch.Generator().manual_seed(0)
    for k in (1, 2):
        slates = draw(logits.expand(60_000, -1), k, luck)
        kinds, counts = slates.unique(dim=0, return_counts=True)
        chance = log_probability(logits.expand(len(kinds), -1), kinds)[0].exp()
        assert float(chance.sum()) == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(counts / 60_000, chance, atol=0.008)


def test_returns_run_to_the_sessions_end():
    reward = np.array([1.0, 2.0, 4.0, 3.0, 5.0])
    last = np.array([False, False, True, False, True])
    assert returns(reward, last, 0.5).tolist() == [3.0, 4.0, 4.0, 5.5, 5.0]


@pytest.mark.parametrize(
    ("field", "wrong", "said"),
    [
        ("reward", np.nan, "rewards of the log are not finite"),
        ("propensity", 0.0, "propensity of 0 or beyond 1"),
    ],
)
def test_a_log_that_cannot_be_is_refused(field, wrong, said):
    steps = log(UNIFORM, 3)
    getattr(steps, field)[2] = wrong
    with pytest.raises(UnusableLogError, match=said):
        LoggedRows.of(steps, ACTIONS, 0.9)


def test_a_log_that_shows_nothing_is_refused():
    steps = log(UNIFORM, 1)
    steps.slate[:] = ACTIONS
    with pytest.raises(UnusableLogError, match="shows no item"):
        LoggedRows.of(steps, ACTIONS, 0.9)


def test_what_learns_from_a_log_asks_for_one():
    with pytest.raises(ValueError, match="learns from logged requests"):
        build(agent("cql"), 1, SHAPE, Maze)

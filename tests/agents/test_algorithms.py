"""Every algorithm against answers that are known: value iteration, closed forms, first-order conditions."""

import itertools
from typing import get_args

import numpy as np
import onnxruntime
import pytest
import torch
from ray import cloudpickle
from scipy.optimize import brentq, minimize

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.export import QueryTower, export_onnx, item_matrix
from recloop.agents.network import Shape
from recloop.market.interface import Outcome, choose
from recloop.settings.params import AlgorithmName
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
    of_policy,
    rows,
)  # fmt: skip

SPREAD = np.ptp(exact())
SKEWED = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.5, 0.4], [0.3, 0.3, 0.4]])


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster(workers=4):
        yield


def trained(name: str, steps: int = 40_000, log=None, **changes: object) -> np.ndarray:
    algorithm = build(agent(name, env_steps=steps, **changes), 1, SHAPE, Maze, log)
    try:
        return learnt(algorithm, steps)
    finally:
        algorithm.stop()


def softmax(scores: np.ndarray) -> np.ndarray:
    mass = np.exp(scores - scores.max(1, keepdims=True))
    return mass / mass.sum(1, keepdims=True)


def value(policy: np.ndarray) -> float:
    """Of a policy, from a random state."""
    return float((policy * of_policy(policy)).sum(1).mean())


def test_params_and_classes_name_the_same_algorithms():
    assert set(get_args(AlgorithmName)) == set(ALGORITHMS)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("q_learning", {}),
        ("dqn", {}),
        ("dqn", {"value": {"priority_exponent": 0.6}}),
        ("ensemble", {"ensemble": {"combine": "mean"}}),
    ],
    ids=["q_learning", "dqn", "prioritised", "ensemble"],
)
def test_values_come_within_a_twentieth_of_value_iteration(name, changes):
    found = trained(name, **changes)
    np.testing.assert_allclose(found, exact(), atol=0.05 * SPREAD)
    if name == "q_learning":
        np.testing.assert_allclose(found, exact(), atol=0.002 * SPREAD)


def test_longer_returns_find_the_best_items_too():
    found = trained("dqn", value={"n_step": 3, "epsilon_end": 0.1})
    assert (found.argmax(1) == exact().argmax(1)).all()


@pytest.mark.parametrize("combine", ["vote", "penalised"])
def test_an_ensemble_ranks_as_value_iteration_does(combine):
    found = trained("ensemble", ensemble={"combine": combine})
    assert (found.argmax(1) == exact().argmax(1)).all()


@pytest.mark.parametrize(
    ("name", "rate"), [("reinforce", 0.02), ("a2c", 0.01), ("ppo", 0.005), ("impala", 0.01)]
)
def test_a_policy_gradient_earns_nine_tenths_of_the_optimum(name, rate):
    found = trained(name, 100_000, learning_rate=rate)
    assert value(softmax(found)) > 0.9 * exact().max(1).mean() > 2 * value(np.full((STATES, ACTIONS), 1 / 3))


def test_what_is_drawn_from_a_log_belongs_together():
    log = rows(SKEWED, 50)
    log.reward.copy_(torch.arange(len(log)))
    drawn = log.draw(500, torch.Generator().manual_seed(1), ahead=True)
    at = drawn["reward"].long()
    request = log.request[at]
    assert len(at.unique()) > 0.5 * min(500, len(log))
    for name, whole in log.observations.items():
        assert torch.equal(drawn[name], whole[request])
        assert torch.equal(drawn[f"next_{name}"], whole[log.following[request]])
    for name in ("item", "to_go", "propensity"):
        assert torch.equal(drawn[name], getattr(log, name)[at])
    assert torch.equal(drawn["done"], log.last[request])
    alone = log.draw(500, torch.Generator().manual_seed(1), ahead=False)
    assert set(alone) == {name for name in drawn if not name.startswith("next_")}
    assert all(torch.equal(alone[name], drawn[name]) for name in alone)


def test_a_log_is_neither_copied_nor_sent_to_learners():
    log = rows(SKEWED, 5000)
    algorithm = build(agent("bc"), 1, SHAPE, Maze, log)
    try:
        assert algorithm.rows is log
        assert len(cloudpickle.dumps(algorithm.config)) < log.item.nbytes
    finally:
        algorithm.stop()


def test_cloning_gives_the_logging_policy_back():
    log = rows(SKEWED, 1500)
    found = trained("bc", 1_500_000, log=log, learning_rate=0.001, train_batch=2048)
    np.testing.assert_allclose(softmax(found), shares(log), atol=0.025)


def shares(log) -> np.ndarray:
    """What the log did in each state."""
    counts = np.zeros((STATES, ACTIONS))
    np.add.at(counts, (log.observations["history"][log.request, 0].numpy(), log.item.numpy()), 1)
    return counts / counts.sum(1, keepdims=True)


def single(policy: np.ndarray, sessions: int = 1500):
    """A log of single requests: a return is its reward."""
    return rows(policy, sessions, gamma=0.0)


def test_marwil_tilts_the_logging_policy_by_the_exponential_of_the_advantage():
    log = single(SKEWED)
    found = softmax(trained("marwil", 400_000, log=log, gamma=0.0, learning_rate=0.001))
    did = shares(log)
    advantage = PAYS - (did * PAYS).sum(1, keepdims=True)
    scale = np.sqrt((states(log)[:, None] * did * advantage**2).sum())
    wanted = did * np.minimum(np.exp(advantage / scale), 10)
    np.testing.assert_allclose(found, wanted / wanted.sum(1, keepdims=True), atol=0.05)


def states(log) -> np.ndarray:
    """Share of rows in each state."""
    return np.bincount(log.observations["history"][log.request, 0].numpy(), minlength=STATES) / len(log)


def test_top_k_reinforce_undoes_the_logging_policys_preference():
    found = trained("top_k_reinforce", 200_000, log=single(SKEWED), gamma=0.0, slate=1)
    assert (found.argmax(1) == PAYS.argmax(1)).all()
    assert (SKEWED.argmax(1) != PAYS.argmax(1)).any()


def test_top_k_reinforce_learns_the_propensities_that_it_is_not_told():
    log = single(SKEWED)
    log.propensity.zero_()
    found = trained("top_k_reinforce", 200_000, log=log, gamma=0.0, slate=1)
    assert (found.argmax(1) == PAYS.argmax(1)).all()


def test_top_k_correction_keeps_a_second_item_in_the_slate():
    """With K = 2 an item that is all but certain is pushed no further, so that others rise (section 4.3)."""
    log = single(np.full((STATES, ACTIONS), 1 / ACTIONS))
    one, two = (
        softmax(trained("top_k_reinforce", 200_000, log=log, gamma=0.0, slate=k)).max(1).mean()
        for k in (1, 2)
    )
    assert two < one - 0.02


def test_cql_without_conservatism_is_value_iteration_on_the_log():
    uniform = np.full((STATES, ACTIONS), 1 / ACTIONS)
    found = trained("cql", 300_000, log=rows(uniform), logs={"conservatism": 0.0})
    np.testing.assert_allclose(found, exact(), atol=0.07 * SPREAD)


def test_cql_meets_its_first_order_condition():
    """One request a session: minimise E[huber(r - Q)] + alpha E[logsumexp Q - Q(a)] in closed form."""
    alpha, log = 0.5, single(SKEWED)
    did = shares(log)
    found = trained(
        "cql", 400_000, log=log, gamma=0.0, learning_rate=0.001,
        logs={"conservatism": alpha},
    )  # fmt: skip

    def loss(q: np.ndarray, s: int) -> float:
        gap = np.abs(PAYS[s] - q)
        huber = np.where(gap < 1, 0.5 * gap**2, gap - 0.5)
        return float((did[s] * (huber + alpha * (np.log(np.exp(q).sum()) - q))).sum())

    wanted = np.array([minimize(loss, PAYS[s], args=(s,), tol=1e-9).x for s in range(STATES)])
    np.testing.assert_allclose(found, wanted, atol=0.08)


def test_iql_finds_expectiles_and_tilts_by_them():
    tau, log = 0.8, single(SKEWED)
    did = shares(log)
    algorithm = build(
        agent("iql", env_steps=400_000, gamma=0.0, learning_rate=0.001, logs={"expectile": tau}), 1, SHAPE,
        Maze, log,
    )  # fmt: skip
    scores = learnt(algorithm, 400_000)
    net, maze = algorithm.network(), Maze()
    maze.state = torch.arange(STATES)
    with torch.no_grad():
        found = net.policy.value(net.policy.state(maze.observe())).numpy()
    algorithm.stop()

    def balance(v: float, s: int) -> float:
        u = PAYS[s] - v
        return float((did[s] * np.abs(tau - (u < 0)) * u).sum())

    wanted = np.array([brentq(balance, -2, 3, args=(s,)) for s in range(STATES)])
    np.testing.assert_allclose(found, wanted, atol=0.1)
    gap = PAYS - wanted[:, None]
    scale = np.sqrt((states(log)[:, None] * did * gap**2).sum())
    tilted = did * np.exp(gap / scale)
    np.testing.assert_allclose(softmax(scores), tilted / tilted.sum(1, keepdims=True), atol=0.07)


def test_marwil_and_iql_better_a_random_log():
    uniform = np.full((STATES, ACTIONS), 1 / ACTIONS)
    sharp = {"advantage_weight": 3.0, "weight_cap": 50.0, "expectile": 0.9}
    for name in ("marwil", "iql"):
        found = trained(name, 300_000, log=rows(uniform), logs=sharp)
        greedy = np.eye(ACTIONS)[found.argmax(1)]
        assert value(greedy) > 0.9 * exact().max(1).mean(), name


@pytest.mark.parametrize("name", ["lin_ucb", "thompson"])
def test_a_linear_bandit_finds_what_pays_now_and_its_reward(name):
    found = trained(name, 20_000)
    assert (found.argmax(1) == PAYS.argmax(1)).all()
    best = PAYS.argmax(1)
    np.testing.assert_allclose(found[np.arange(STATES), best], PAYS.max(1), atol=0.02)


def test_a_logistic_bandit_finds_what_is_rewarded():
    found = trained("logistic", 40_000, value={"epsilon_end": 0.5})
    assert (found[PAYS > 0] > 1).all()
    assert (found[PAYS <= 0] < -1).all()


CHOICE = np.array([1.0, -0.5, 0.5])  # logits, of none 0


class SlateMaze(Maze):
    """People are shown two of three items and choose one or none; without one, nothing happens."""

    def step(self, slates: torch.Tensor) -> Outcome:
        place = choose(torch.tensor(CHOICE, dtype=torch.float32)[slates], self._generator)
        item = slates.gather(1, place.clamp(min=0)[:, None])[:, 0]
        chosen = place >= 0
        reward = torch.where(chosen, self.pays[self.state, item], 0.0)
        done = chosen & torch.tensor(ENDS)[self.state, item]
        self.state = torch.where(chosen, torch.tensor(NEXT)[self.state, item], self.state)
        return Outcome(place, torch.zeros_like(done), reward, done)


def slate_values(policy: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """V (STATES,) and Q (STATES, 3 pairs) of a choice of pair by state, or of the best one."""
    pairs = list(itertools.combinations(range(ACTIONS), 2))
    v = np.zeros(STATES)
    for _ in range(500):
        q = np.zeros((STATES, len(pairs)))
        for n, pair in enumerate(pairs):
            mass = np.exp(CHOICE[list(pair)])
            chance = mass / (1 + mass.sum())
            q[:, n] = (1 - chance.sum()) * GAMMA * v
            for p, i in zip(chance, pair, strict=True):
                q[:, n] += p * (PAYS[:, i] + GAMMA * ~ENDS[:, i] * v[NEXT[:, i]])
        v = q.max(1) if policy is None else q[np.arange(STATES), policy]
    return v, q


def test_slateq_finds_the_best_slates_of_an_enumerated_process():
    chosen = agent("slateq", slate=2, env_steps=60_000)
    algorithm = build(chosen, 1, SHAPE, SlateMaze)
    scores = learnt(algorithm, 60_000)
    net, maze = algorithm.network(), Maze()
    maze.state = torch.arange(STATES)
    with torch.no_grad():
        _, worth = net.ranked(*net.both(net.state(maze.observe())), None)
    algorithm.stop()
    best, _ = slate_values(None)
    pairs = [tuple(sorted(row)) for row in np.argsort(-scores, 1)[:, :2]]
    policy = np.array([list(itertools.combinations(range(ACTIONS), 2)).index(pair) for pair in pairs])
    got, _ = slate_values(policy)
    np.testing.assert_allclose(got, best, rtol=0.02)
    np.testing.assert_allclose(worth[:, 0].numpy(), best, atol=0.08 * np.ptp(exact()))


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("history", ["pool", "gru", "attention"])
def test_the_export_scores_like_the_network(name, history, tmp_path):
    if history != "pool" and name not in ("dqn", "ppo"):
        pytest.skip("the encoder is the same network")
    generator = np.random.default_rng(0)
    shape = Shape(generator.normal(size=(50, 7)).astype(np.float32), 5, 4, 6)
    small = agent(name, network={"dim": 8, "history": history}, slate=3)
    log = rows(SKEWED, 5)
    algorithm = build(small, 1, shape, lambda: Strangers(50), log)
    network = algorithm.network()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    observation = Strangers(50).reset(33)
    export_onnx(network, {k: x[:2] for k, x in observation.items()}, tmp_path / "scorer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx")
    with torch.no_grad():
        wanted = network(*observation.values()).numpy()
    for people in (1, 33):
        feed = {k: x[:people].numpy() for k, x in observation.items()}
        found = session.run(["scores"], feed)[0]
        scale = np.abs(wanted[:people]).max()
        np.testing.assert_allclose(found, wanted[:people], atol=2e-6 * max(scale, 1), rtol=1e-4)
    if getattr(network, "searchable", False):
        with torch.no_grad():
            product = network.query(*observation.values()) @ network.item_matrix().T
        np.testing.assert_allclose(product.numpy(), wanted, atol=1e-4)
        tower = tmp_path / "tower.onnx"
        export_onnx(QueryTower(network), {k: x[:2] for k, x in observation.items()}, tower, "query")
        queries = onnxruntime.InferenceSession(tower).run(["query"], feed)[0]
        np.testing.assert_allclose(queries @ item_matrix(network).T, wanted, atol=1e-4)
    else:
        assert item_matrix(network) is None
    algorithm.stop()


class Strangers(Maze):
    """People of random features, who never come back."""

    def __init__(self, items: int) -> None:
        super().__init__()
        self.n_items = items

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.seen = {
            "profile": torch.randn(count, 5, generator=self._generator),
            "context": torch.randn(count, 4, generator=self._generator),
            "history": torch.randint(self.n_items + 1, (count, 6), generator=self._generator),
        }
        return self.seen

    def observe(self) -> dict[str, torch.Tensor]:
        return self.seen

"""The double DQN against a decision process that is solved exactly, and against faults."""

import numpy as np
import onnxruntime
import pytest
import torch

from recloop.agents.build import Shape, build_dqn
from recloop.agents.cluster import cluster
from recloop.agents.export import export_onnx
from recloop.agents.network import TwoTower
from recloop.agents.replay import Replay
from recloop.agents.runner import NotFiniteError
from recloop.market.interface import Outcome
from recloop.settings.params import AgentParams

STATES, ACTIONS, GAMMA = 4, 3, 0.8
NEXT = np.array([[1, 2, 0], [3, 0, 2], [0, 3, 1], [2, 1, 3]])
PAYS = np.array([[0.0, 1.0, 0.2], [2.0, 0.0, -1.0], [0.0, 0.5, 0.0], [-1.0, 0.0, 0.3]])
ENDS = np.zeros((STATES, ACTIONS), bool)
ENDS[3, 2] = True  # leaving is final: nothing is worth anything after it


class Maze:
    """Four states that the context shows; deterministic steps, one of which ends the session."""

    n_items = ACTIONS

    def __init__(self, pays: np.ndarray = PAYS) -> None:
        self.pays = torch.tensor(pays, dtype=torch.float32)
        self.seed(0)

    def seed(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.state = torch.randint(STATES, (count,), generator=self._generator)
        return self.observe()

    def observe(self) -> dict[str, torch.Tensor]:
        count = len(self.state)
        return {
            "profile": torch.ones(count, 1),
            "context": torch.nn.functional.one_hot(self.state, STATES).float(),
            "history": torch.full((count, 1), ACTIONS),
        }

    def step(self, slates: torch.Tensor) -> Outcome:
        action = slates[:, 0]
        reward, done = self.pays[self.state, action], torch.tensor(ENDS)[self.state, action]
        self.state = torch.tensor(NEXT)[self.state, action]
        return Outcome(torch.zeros_like(action), torch.zeros_like(done), reward, done)

    def arrive(self, gone: torch.Tensor) -> None:
        new = torch.randint(STATES, self.state.shape, generator=self._generator)
        self.state = torch.where(gone, new, self.state)


def exact() -> np.ndarray:
    """Q by value iteration (Bellman 1957)."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(500):
        q = PAYS + GAMMA * ~ENDS * q.max(1)[NEXT]
    return q


def agent(**changes: object) -> AgentParams:
    values = {
        "algorithm": "dqn", "gamma": GAMMA, "dim": 8, "hidden": 32, "env_steps": 40_000, "users_at_once": 64,
        "learning_rate": 0.003, "train_batch": 128, "replay_capacity": 5000, "updates_per_step": 2,
        "target_update_every": 25, "epsilon_start": 1.0, "epsilon_end": 0.3, "epsilon_decay_share": 0.5,
        "num_env_runners": 0, "num_learners": 0, "num_gpus_per_learner": 0,
    }  # fmt: skip
    return AgentParams.model_validate(values | changes)


SHAPE = Shape(np.eye(ACTIONS, dtype=np.float32), 1, STATES, 1)


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster(workers=4):
        yield


def learnt(algorithm, steps: int) -> np.ndarray:
    while algorithm.env_steps < steps:
        algorithm.step()
    maze = Maze()
    maze.state = torch.arange(STATES)
    with torch.no_grad():
        return algorithm.network()(*maze.observe().values()).numpy()


def test_q_comes_within_a_twentieth_of_value_iteration():
    algorithm = build_dqn(agent(), 1, SHAPE, Maze)
    np.testing.assert_allclose(learnt(algorithm, 40_000), exact(), atol=0.05 * np.ptp(exact()))
    algorithm.stop()


def test_a_checkpoint_brings_the_network_back(tmp_path):
    first = build_dqn(agent(), 1, SHAPE, Maze)
    before = learnt(first, 4000)
    first.save_to_path(str(tmp_path / "checkpoint"))
    first.stop()
    second = build_dqn(agent(), 2, SHAPE, Maze)
    second.restore_from_path(str(tmp_path / "checkpoint"))
    np.testing.assert_array_equal(learnt(second, 0), before)
    second.stop()


def test_the_same_seed_learns_the_same():
    found = []
    for _ in range(2):
        algorithm = build_dqn(agent(), 3, SHAPE, Maze)
        found.append(learnt(algorithm, 4000))
        algorithm.stop()
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_two_remote_env_runners_and_two_remote_learners_learn_too():
    algorithm = build_dqn(agent(num_env_runners=2, num_learners=2), 1, SHAPE, Maze)
    assert (learnt(algorithm, 30_000).argmax(1) == exact().argmax(1)).all()
    assert algorithm.mean_loss() < 0.1
    algorithm.stop()


@pytest.mark.slow
def test_the_fault_of_a_remote_env_runner_is_told():
    algorithm = build_dqn(agent(num_env_runners=1), 1, SHAPE, lambda: Maze(np.full_like(PAYS, np.nan)))
    with pytest.raises(NotFiniteError, match="not finite"):
        algorithm.step()
    algorithm.stop()


def test_a_reward_that_is_no_number_stops_the_training():
    algorithm = build_dqn(agent(), 1, SHAPE, lambda: Maze(np.full_like(PAYS, np.nan)))
    with pytest.raises(NotFiniteError, match="not finite"):
        algorithm.step()
    algorithm.stop()


def test_epsilon_falls_linearly_and_then_stays():
    algorithm = build_dqn(agent(env_steps=1000), 1, SHAPE, Maze)
    seen = []
    for steps in (0, 250, 500, 1000):
        algorithm.env_steps = steps
        seen.append(algorithm.epsilon)
    assert seen == pytest.approx([1.0, 0.65, 0.3, 0.3])
    algorithm.stop()


def test_replay_keeps_the_newest_and_samples_all_of_it():
    replay = Replay(10, 0)
    for start in range(0, 24, 4):
        replay.add({"x": torch.arange(start, start + 4), "y": torch.arange(start, start + 4) * 2.0})
    drawn = replay.sample(2000)
    assert set(drawn["x"].tolist()) == set(range(14, 24))
    assert torch.equal(drawn["y"], drawn["x"] * 2.0)


def test_the_export_scores_like_the_network(tmp_path):
    torch.manual_seed(0)
    network = TwoTower(torch.randn(50, 7), 5, 4, 8, 16)
    observation = {
        "profile": torch.randn(33, 5), "context": torch.randn(33, 4), "history": torch.randint(51, (33, 6)),
    }  # fmt: skip
    export_onnx(network, {name: x[:2] for name, x in observation.items()}, tmp_path / "scorer.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "scorer.onnx")
    with torch.no_grad():
        wanted = network(*observation.values()).numpy()
    for rows in (1, 33):
        feed = {name: x[:rows].numpy() for name, x in observation.items()}
        np.testing.assert_allclose(session.run(["scores"], feed)[0], wanted[:rows], atol=1e-5)
    assert [file.name for file in tmp_path.iterdir()] == ["scorer.onnx"]
    content = (tmp_path / "scorer.onnx").read_bytes()
    assert b".py" not in content, "the file names the exporter's source files"
    assert len(content) < 20_000

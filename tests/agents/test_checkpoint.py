"""Checkpoints of a running algorithm: whole, without pickle, and passed over when damaged."""

import numpy as np
import pytest
import torch

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.checkpoint import Progress, fingerprint, resume, save
from recloop.agents.cluster import cluster
from recloop.agents.log import LoggedRows
from recloop.agents.network import Shape
from recloop.features import Steps
from recloop.market.interface import Outcome
from recloop.settings import load_params

ITEMS, PEOPLE = 5, 32


class Fair:
    """Pays 1 for item 0, and sends everyone home after the third request."""

    n_items = ITEMS

    def seed(self, seed: int) -> None:
        pass

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.left = torch.full((count,), 3)
        return self.observe()

    def observe(self) -> dict[str, torch.Tensor]:
        count = len(self.left)
        context = torch.nn.functional.one_hot(self.left, 4).float()
        return {
            "profile": torch.ones(count, 2), "context": context, "history": torch.full((count, 1), ITEMS),
        }  # fmt: skip

    def step(self, slates: torch.Tensor) -> Outcome:
        self.left = self.left - 1
        right = slates[:, 0] == 0
        return Outcome(right.long() - 1, torch.zeros_like(right), right.float(), self.left == 0)

    def arrive(self, gone: torch.Tensor) -> None:
        self.left = torch.where(gone, 3, self.left)


def fair_log() -> LoggedRows:
    """What a random policy did among fair people, three requests each."""
    rng = np.random.default_rng(0)
    count = 300
    slate = rng.integers(ITEMS, size=(count, 1))
    person = np.arange(count) // 3
    return LoggedRows.of(
        Steps(
            user=person, session=person, ts=np.arange(count), profile=np.ones((count, 2), np.float32),
            context=np.eye(4, dtype=np.float32)[3 - np.arange(count) % 3],
            history=np.full((count, 1), ITEMS), slate=slate, propensity=np.full((count, 1), 1 / ITEMS),
            position=np.zeros((count, 1), np.int64), clicked=np.where(slate[:, 0] == 0, 0, -1),
            reward=(slate[:, 0] == 0).astype(np.float32), done=np.arange(count) % 3 == 2,
        ),
        ITEMS,
        0.9,
    )  # fmt: skip


LOG = fair_log()


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster():
        yield


def algorithm(seed: int, name: str = "dqn"):
    shipped = load_params().agent
    agent = shipped.model_copy(
        update={
            "algorithm": name,
            "users_at_once": PEOPLE,
            "train_batch": 64,
            "value": shipped.value.model_copy(update={"replay_capacity": 500}),
            "num_gpus_per_learner": 0.0,
        }
    )
    return build(agent, seed, Shape(np.eye(ITEMS, dtype=np.float32), 2, 4, 1), Fair, LOG)


@pytest.fixture(scope="module")
def trained():
    """700 transitions, so that the ring of the memory has turned."""
    found = algorithm(1)
    while found.env_steps < 700:
        found.step()
    yield found
    found.stop()


def leaves(value: object, path: str = ""):
    if isinstance(value, dict):
        for key, each in value.items():
            yield from leaves(each, f"{path}/{key!r}")
    elif isinstance(value, list | tuple):
        for i, each in enumerate(value):
            yield from leaves(each, f"{path}/{i}")
    else:
        yield path, np.asarray(value)


def test_nothing_of_the_state_is_lost(trained, tmp_path):
    save(tmp_path, trained, Progress(trained.env_steps, 1.5, [{"env_steps": 700.0}]))
    other = algorithm(2)
    progress = resume(tmp_path, other)
    before, after = dict(leaves(trained.learning_state())), dict(leaves(other.learning_state()))
    other.stop()
    assert progress == Progress(trained.env_steps, 1.5, [{"env_steps": 700.0}])
    assert before.keys() == after.keys()
    assert any("target." in path for path in before)
    assert any("exp_avg_sq" in path for path in before)
    assert before["/'replay'/'columns'/'reward'"].shape == (500,)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if name != "dqn"])
def test_every_algorithm_goes_on_from_where_it_was(name, tmp_path):
    first = algorithm(1, name)
    for _ in range(3):
        first.step()
    progress = Progress(first.env_steps, 0.0, [])
    progress.keep_best(first.network(), 1.0)
    save(tmp_path, first, progress)
    second = algorithm(2, name)
    found = resume(tmp_path, second)
    assert found.env_steps == second.env_steps == first.env_steps > 0
    before, after = dict(leaves(first.learning_state())), dict(leaves(second.learning_state()))
    assert before.keys() == after.keys()
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)
    network = second.network()
    network.load_state_dict(found.best)
    for name_, wanted in first.network().state_dict().items():
        assert torch.equal(network.state_dict()[name_], wanted)
    second.step()
    first.stop()
    second.stop()


def test_a_checkpoint_holds_no_pickle_and_replaces_the_older_one(trained, tmp_path):
    save(tmp_path, trained, Progress(100, 0.0, []))
    save(tmp_path, trained, Progress(200, 0.0, []))
    assert [folder.name for folder in tmp_path.iterdir()] == ["000000000200"]
    assert {file.name for file in (tmp_path / "000000000200").iterdir()} == {"arrays.npz", "state.json"}


@pytest.mark.parametrize("name", ["arrays.npz", "state.json"])
def test_a_damaged_checkpoint_is_passed_over(trained, tmp_path, capsys, name):
    save(tmp_path, trained, Progress(100, 0.0, []))
    file = tmp_path / "000000000100" / name
    file.write_bytes(file.read_bytes()[:-200])
    before = trained.env_steps
    assert resume(tmp_path, trained) == Progress(0, 0.0, [])
    assert trained.env_steps == before
    assert "cannot be read and is passed over" in capsys.readouterr().out


def test_a_checkpoint_serves_only_the_same_parameters_and_data(tmp_path):
    params = load_params()
    file = tmp_path / "items.npz"
    file.write_bytes(b"one")
    first = fingerprint(params, [file])
    assert fingerprint(params, [file]) == first
    assert fingerprint(params.model_copy(update={"seed": params.seed + 1}), [file]) != first
    agent = params.agent.model_copy(update={"gamma": 0.5})
    assert fingerprint(params.model_copy(update={"agent": agent}), [file]) != first
    file.write_bytes(b"two")
    assert fingerprint(params, [file]) != first

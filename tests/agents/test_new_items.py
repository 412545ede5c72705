"""An item that nobody was ever shown is judged by its features, at once."""

import numpy as np
import pytest
import torch

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.build import build
from recloop.agents.cluster import cluster
from recloop.agents.log import LoggedRows
from recloop.agents.network import Shape
from recloop.features import Steps
from recloop.market.interface import Outcome, choose
from tests.agents.mazes import agent

OLD, NEW = 40, 40
ITEMS = OLD + NEW
RNG = np.random.default_rng(0)
KIND = np.tile([1.0, -1.0], ITEMS // 2)  # every other item is good
FEATURES = np.stack([KIND, -KIND, *RNG.normal(size=(3, ITEMS))], 1).astype(np.float32)
AVAILABLE = np.arange(ITEMS) < OLD
SHAPE = Shape(FEATURES, 1, 2, 3, AVAILABLE)
TWO_TOWERS = [name for name in ALGORITHMS if name not in ("q_learning", "lin_ucb", "thompson", "logistic")]


class Shelf:
    """Good items are clicked four times as often as bad ones; a session is of four requests."""

    n_items = ITEMS

    def seed(self, seed: int) -> None:
        self.luck = torch.Generator().manual_seed(seed)

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.left = torch.full((count,), 4)
        return self.observe()

    def observe(self) -> dict[str, torch.Tensor]:
        count = len(self.left)
        return {
            "profile": torch.ones(count, 1), "context": torch.ones(count, 2),
            "history": torch.full((count, 3), ITEMS),
        }  # fmt: skip

    def step(self, slates: torch.Tensor) -> Outcome:
        assert (slates < OLD).all(), "a new item was shown"
        self.left = self.left - 1
        place = choose(torch.tensor(KIND, dtype=torch.float32)[slates] - 1, self.luck)
        return Outcome(place, place < -1, (place >= 0).float(), self.left == 0)

    def arrive(self, gone: torch.Tensor) -> None:
        self.left = torch.where(gone, 4, self.left)


def log() -> LoggedRows:
    """What a policy did that shows good items twice as often."""
    rng, count = np.random.default_rng(0), 4000
    chance = np.where(KIND[:OLD] > 0, 2.0, 1.0) / (1.5 * OLD)
    slate = rng.choice(OLD, p=chance, size=(count, 1))
    hit = rng.random(count) < 1 / (1 + np.exp(1 - KIND[slate[:, 0]]))
    person = np.arange(count) // 4
    return LoggedRows.of(
        Steps(
            user=person, session=person, ts=np.arange(count), profile=np.ones((count, 1), np.float32),
            context=np.ones((count, 2), np.float32), history=np.full((count, 3), ITEMS), slate=slate,
            propensity=chance[slate], position=np.zeros((count, 1), np.int64),
            clicked=np.where(hit, 0, -1), reward=hit.astype(np.float32), done=np.arange(count) % 4 == 3,
        ),
        ITEMS, 0.5,
    )  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def running():
    torch.set_num_threads(1)
    with cluster():
        yield


@pytest.mark.parametrize("name", TWO_TOWERS)
def test_good_items_that_nobody_saw_rank_above_bad_ones(name):
    """In 9 of 10 pairs of a good and a bad unseen item; by chance it would be in 5."""
    chosen = agent(
        name, gamma=0.5, slate=3 if name in ("slateq", "ppo") else 1, env_steps=20_000, learning_rate=0.005
    )
    algorithm = build(chosen, 1, SHAPE, Shelf, log())
    while algorithm.env_steps < 20_000 * (5 if ALGORITHMS[name].from_log else 1):
        algorithm.step()
    network = algorithm.network()
    algorithm.stop()
    with torch.no_grad():
        scores = network(torch.ones(1, 1), torch.ones(1, 2), torch.full((1, 3), ITEMS))[0].numpy()
    good, bad = scores[OLD:][KIND[OLD:] > 0], scores[OLD:][KIND[OLD:] < 0]
    right = (good[:, None] > bad).mean()
    assert right > 0.9, right

"""A decision process that is solved exactly, as a market and as a log."""

import numpy as np
import torch

from recloop.agents.log import LoggedRows
from recloop.agents.network import Shape
from recloop.features import Steps
from recloop.market.interface import Outcome
from recloop.settings import load_params
from recloop.settings.params import AgentParams

STATES, ACTIONS, GAMMA = 4, 3, 0.8
NEXT = np.array([[1, 2, 0], [3, 0, 2], [0, 3, 1], [2, 1, 3]])
PAYS = np.array([[0.0, 1.0, 0.2], [2.0, 0.0, -1.0], [0.0, 0.5, 0.0], [-1.0, 0.0, 0.3]])
ENDS = np.zeros((STATES, ACTIONS), bool)
ENDS[3, 2] = True  # leaving is final: nothing is worth anything after it
SHAPE = Shape(np.eye(ACTIONS, dtype=np.float32), 1, STATES, 1)


class Maze:
    """Four states, which context and newest item show; deterministic steps, one of which ends the session."""

    n_items = ACTIONS

    def __init__(self, pays: np.ndarray = PAYS, device: str = "cpu") -> None:
        self.device = torch.device(device)
        self.pays = torch.tensor(pays, dtype=torch.float32, device=device)
        self.ends, self.next = torch.tensor(ENDS, device=device), torch.tensor(NEXT, device=device)
        self.seed(0)

    def seed(self, seed: int) -> None:
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def reset(self, count: int) -> dict[str, torch.Tensor]:
        self.state = torch.randint(STATES, (count,), generator=self._generator, device=self.device)
        return self.observe()

    def observe(self) -> dict[str, torch.Tensor]:
        return {
            "profile": torch.ones(len(self.state), 1, device=self.device),
            "context": torch.nn.functional.one_hot(self.state, STATES).float(),
            "history": self.state[:, None],
        }

    def step(self, slates: torch.Tensor) -> Outcome:
        action = slates[:, 0]
        reward, done = self.pays[self.state, action], self.ends[self.state, action]
        self.state = self.next[self.state, action]
        return Outcome(torch.zeros_like(action), torch.zeros_like(done), reward, done)

    def arrive(self, gone: torch.Tensor) -> None:
        new = torch.randint(STATES, self.state.shape, generator=self._generator, device=self.device)
        self.state = torch.where(gone, new, self.state)


def exact(gamma: float = GAMMA) -> np.ndarray:
    """Q by value iteration (Bellman 1957)."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(500):
        q = PAYS + gamma * ~ENDS * q.max(1)[NEXT]
    return q


def of_policy(policy: np.ndarray, gamma: float = GAMMA) -> np.ndarray:
    """Q of a policy (STATES, ACTIONS), by iteration."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(500):
        q = PAYS + gamma * ~ENDS * (policy * q).sum(1)[NEXT]
    return q


def log(policy: np.ndarray, sessions: int, length: int = 30, seed: int = 0) -> Steps:
    """What ``policy`` did, one item a request; a session that is not over ends at ``length``."""
    rng = np.random.default_rng(seed)
    rows = []
    for person in range(sessions):
        state = int(rng.integers(STATES))
        for _ in range(length):
            action = int(rng.choice(ACTIONS, p=policy[state]))
            rows.append((person, state, action, PAYS[state, action], policy[state, action]))
            if ENDS[state, action]:
                break
            state = int(NEXT[state, action])
    person, state, action, reward, chance = (np.array(x) for x in zip(*rows, strict=True))
    return Steps(
        user=person, session=person, ts=np.arange(len(rows)), profile=np.ones((len(rows), 1), np.float32),
        context=np.eye(STATES, dtype=np.float32)[state], history=state[:, None], slate=action[:, None],
        propensity=chance[:, None], position=np.zeros((len(rows), 1), np.int64),
        clicked=np.zeros(len(rows), np.int64),
        reward=reward.astype(np.float32), done=np.append(person[1:] != person[:-1], True),
    )  # fmt: skip


def rows(policy: np.ndarray, sessions: int = 400, gamma: float = GAMMA) -> LoggedRows:
    """The same, to learn from."""
    return LoggedRows.of(log(policy, sessions), ACTIONS, gamma)


SMALL = {
    "gamma": GAMMA, "slate": 1, "env_steps": 40_000, "users_at_once": 64, "learning_rate": 0.003,
    "train_batch": 128, "num_gpus_per_learner": 0.0,
    "network": {"dim": 8, "hidden": 32},
    "value": {"replay_capacity": 5000, "updates_per_step": 2, "target_update_every": 25, "epsilon_end": 0.3},
    "gradient": {"minibatch": 256, "entropy": 0.003},
}  # fmt: skip


def agent(algorithm: str, **changes: object) -> AgentParams:
    """The shipped parameters, made small; a section's entries may be given one by one."""
    values = load_params().agent.model_dump() | {"algorithm": algorithm}
    for part in (SMALL, changes):
        for name, value in part.items():
            values[name] = values[name] | value if isinstance(value, dict) else value
    return AgentParams.model_validate(values)


def learnt(algorithm, steps: int = 40_000) -> np.ndarray:
    """The exported network's scores in the four states."""
    while algorithm.env_steps < steps:
        algorithm.step()
    maze = Maze()
    maze.state = torch.arange(STATES)
    with torch.no_grad():
        return algorithm.network()(*maze.observe().values()).numpy()

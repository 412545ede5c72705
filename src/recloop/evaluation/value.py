"""What a policy is worth to people who stay and leave: its mean return in a market."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats

from recloop.market import Market
from recloop.market.threads import single_thread
from recloop.policy import Sampler


@dataclass(frozen=True)
class Returns:
    """One session of each of n people.

    Attributes:
        reward: float64 (n,), summed over the session.
        requests: int64 (n,), length of the session.
        clicks: int64 (n,).
        purchases: int64 (n,).
    """

    reward: np.ndarray
    requests: np.ndarray
    clicks: np.ndarray
    purchases: np.ndarray

    def figures(self) -> dict[str, float]:
        """``value``, ``low``, ``high`` (mean return, 95 %), and means of the other fields."""
        others = {name: float(getattr(self, name).mean()) for name in ("requests", "clicks", "purchases")}
        return dict(zip(("value", "low", "high"), mean_interval(self.reward), strict=True)) | others


def mean_interval(values: np.ndarray, confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean and Student's interval of float (n,); infinitely wide below two values.

    It covers the luck of the people drawn, not the market's own distance from the world.
    """
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("-inf"), float("inf")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + confidence) / 2, len(values) - 1)) * error
    return mean, mean - half, mean + half


@single_thread()
def value_in_market(
    sampler: Sampler, market: Market, people: int, slate: int, horizon: int, seed: int
) -> Returns:
    """Let ``people`` browse, each for one session of at most ``horizon`` requests.

    The same seed brings the same people with the same luck, so that two policies' returns can be
    compared person by person.
    """
    market.seed(seed)
    rng = np.random.default_rng([seed, 5])
    market.reset(people)
    alive = np.ones(people, bool)
    reward = np.zeros(people)
    requests, clicks, purchases = (np.zeros(people, np.int64) for _ in range(3))
    for _ in range(horizon):
        here = np.flatnonzero(alive)
        if not len(here):
            break
        observation = {name: x.cpu().numpy()[here] for name, x in market.observe().items()}
        drawn = sampler.slates(observation, slate, rng).items
        slates = np.zeros((people, drawn.shape[1]), np.int64)
        slates[here] = drawn
        outcome = market.step(torch.from_numpy(slates))
        reward[here] += outcome.reward.cpu().numpy()[here]
        requests[here] += 1
        clicks[here] += outcome.clicked.cpu().numpy()[here] >= 0
        purchases[here] += outcome.bought.cpu().numpy()[here]
        alive &= ~outcome.done.cpu().numpy()
    return Returns(reward, requests, clicks, purchases)


def paired(champion: Returns, challenger: Returns) -> dict[str, float]:
    """Challenger minus champion, person by person, with its 95 % interval."""
    gap, low, high = mean_interval(challenger.reward - champion.reward)
    return {
        "champion": float(champion.reward.mean()),
        "challenger": float(challenger.reward.mean()),
        "difference": gap,
        "low": low,
        "high": high,
    }

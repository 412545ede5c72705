"""What a policy is worth to people who stay and leave: its mean return in a market."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy import stats

from recloop.market import GroundTruth, Market
from recloop.market.threads import single_thread
from recloop.policy import Sampler

FORESIGHTS = (1.0, 2.0, 4.0, 8.0)  # of the oracle: how much what an item leaves behind counts next to a click
Show = Callable[[dict[str, np.ndarray], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Returns:
    """One session of each of n people.

    Attributes:
        reward: float64 (n,), summed over the session.
        requests: int64 (n,), length of the session.
        clicks: int64 (n,).
        purchases: int64 (n,).
        satisfaction: float32 (n,), at the end of the session, where the market knows it.
        start: the observation with which each session began, n rows.
    """

    reward: np.ndarray
    requests: np.ndarray
    clicks: np.ndarray
    purchases: np.ndarray
    satisfaction: np.ndarray | None = None
    start: dict[str, np.ndarray] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """``value``, ``low``, ``high`` (mean return, 95 %), and means of the other fields that are known."""
        names = ("requests", "clicks", "purchases", "satisfaction")
        known = {name: getattr(self, name) for name in names}
        others = {name: float(values.mean()) for name, values in known.items() if values is not None}
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


def value_in_market(
    sampler: Sampler, market: Market, people: int, slate: int, horizon: int, seed: int
) -> Returns:
    """Let ``people`` browse, each for one session of at most ``horizon`` requests.

    The same seed brings the same people with the same luck, so that two policies' returns can be
    compared person by person.
    """
    rng = np.random.default_rng([seed, 5])

    def show(observation: dict[str, np.ndarray], here: np.ndarray) -> np.ndarray:
        return sampler.slates(observation, slate, rng).items

    return _browse(show, market, people, horizon, seed)


def oracle_value(market: GroundTruth, people: int, slate: int, horizon: int, seed: int) -> Returns:
    """Returns of who sees every hidden number: the oracle's best scores, by the best of ``FORESIGHTS``.

    The same people with the same luck as in ``value_in_market``. It is no upper bound, so regret against it
    is understated.
    """

    def returns(foresight: float) -> Returns:
        def show(_: dict[str, np.ndarray], here: np.ndarray) -> np.ndarray:
            return market.oracle(foresight)[torch.from_numpy(here)].topk(slate, 1).indices.cpu().numpy()

        return _browse(show, market, people, horizon, seed)

    return max((returns(foresight) for foresight in FORESIGHTS), key=lambda found: found.reward.mean())


@single_thread()
def _browse(show: Show, market: Market, people: int, horizon: int, seed: int) -> Returns:
    """``show`` gets the observation of those who are still there, and their places (b,)."""
    market.seed(seed)
    market.reset(people)
    start = {name: np.array(x.cpu().numpy()) for name, x in market.observe().items()}
    alive = np.ones(people, bool)
    reward = np.zeros(people)
    requests, clicks, purchases = (np.zeros(people, np.int64) for _ in range(3))
    satisfaction = np.zeros(people, np.float32) if hasattr(market, "satisfaction") else None
    for _ in range(horizon):
        here = np.flatnonzero(alive)
        if not len(here):
            break
        observation = {name: x.cpu().numpy()[here] for name, x in market.observe().items()}
        drawn = show(observation, here)
        slates = np.zeros((people, drawn.shape[1]), np.int64)
        slates[here] = drawn
        outcome = market.step(torch.from_numpy(slates))
        reward[here] += outcome.reward.cpu().numpy()[here]
        requests[here] += 1
        clicks[here] += outcome.clicked.cpu().numpy()[here] >= 0
        purchases[here] += outcome.bought.cpu().numpy()[here]
        if satisfaction is not None:
            satisfaction[here] = market.satisfaction.cpu().numpy()[here]  # type: ignore[attr-defined]
        alive &= ~outcome.done.cpu().numpy()
    return Returns(reward, requests, clicks, purchases, satisfaction, start)


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

"""The protocol: leave-last-out over the whole catalogue.

Of every person the last item is the test, the one before it the validation, the rest is learnt from. All
items are ranked but those that the person met before; nothing is sampled. Everything that is chosen
(parameters, when to stop) is chosen on the validation. In the test the validation's item is part of what is
known; no model is fitted again. Ties in time keep the order of the item's identifier, which says nothing of
taste.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from recloop.intake.movielens import MovieLens

K = 10
FEWEST = 5  # items of a person, below which there is nothing to learn from
Part = Literal["validation", "test"]


class TooLittleError(ValueError):
    """The log holds nobody with items enough."""


@dataclass(frozen=True)
class Log:
    """U people, N items.

    Attributes:
        items: per person int64 (n,), the items met, oldest first, each once.
        rewards: per person float64 (n,), 1 where the item was liked, else 0.
        count: N.
    """

    items: list[np.ndarray]
    rewards: list[np.ndarray]
    count: int

    def learnt(self) -> "Log":
        """What models are fitted on."""
        return Log([row[:-2] for row in self.items], [row[:-2] for row in self.rewards], self.count)

    def known(self, part: Part) -> "Log":
        """What is known when the part's item is asked for."""
        end = -2 if part == "validation" else -1
        return Log([row[:end] for row in self.items], [row[:end] for row in self.rewards], self.count)

    def hidden(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """int64 (U,) items to be found, float64 (U,) their rewards."""
        at = -2 if part == "validation" else -1
        return np.array([row[at] for row in self.items]), np.array([row[at] for row in self.rewards])


def read_log(data: MovieLens, liked: float) -> Log:
    """The ratings as sequences, an item of a person at its first rating; liked from that many stars on.

    Raises:
        TooLittleError: nobody has ``FEWEST`` items.
    """
    ratings = data.ratings.unique(["user", "item"], keep="first", maintain_order=True)
    user = np.unique(ratings["user"].to_numpy().astype(str), return_inverse=True)[1]
    names, item = np.unique(ratings["item"].to_numpy().astype(str), return_inverse=True)
    reward = (ratings["rating"].to_numpy() >= liked).astype(np.float64)
    order = np.argsort(user, kind="stable")  # ratings come in the order of time
    cuts = np.flatnonzero(np.diff(user[order])) + 1
    rows = list(zip(np.split(item[order], cuts), np.split(reward[order], cuts), strict=True))
    rows = [row for row in rows if len(row[0]) >= FEWEST]
    if not rows:
        raise TooLittleError(f"nobody has {FEWEST} ratings or more: give the whole dataset")
    return Log([row[0] for row in rows], [row[1] for row in rows], len(names))


def ranks(scores: np.ndarray, known: Log, target: np.ndarray) -> np.ndarray:
    """float64 (U,): how many unseen items score above the target, ties counted half.

    Raises:
        ValueError: scores that are not finite.
    """
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: the model has diverged")
    free = np.ones(scores.shape, bool)
    for row, met in zip(free, known.items, strict=True):
        row[met] = False
    own = scores[np.arange(len(target)), target][:, None]
    above = (free & (scores > own)).sum(1)
    level = (free & (scores == own)).sum(1) - 1
    return above + level / 2


def ndcg(rank: np.ndarray) -> np.ndarray:
    """float64 (U,): 1 / log2(rank + 2) within the first ``K``, else 0; one relevant item each."""
    return np.where(rank < K, 1 / np.log2(rank + 2), 0.0)


def weighted(values: np.ndarray, reward: np.ndarray) -> float:
    """Mean of (U,) values weighted by what the hidden item was worth: reward-weighted NDCG of ``ndcg``."""
    return float(values @ reward / reward.sum()) if reward.sum() else float("nan")

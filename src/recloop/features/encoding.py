"""Target encoding: a word becomes what requests of other people with the same word were worth.

A person's fold is a hash of their id, and what they get is fitted without anybody of their fold. So nobody's
own target is in their own feature, in training as in serving, which both compute the same number. Means are
drawn to the prior with the weight n / (n + m): Micci-Barreca, "A preprocessing scheme for high-cardinality
categorical attributes in classification and prediction problems", SIGKDD Explorations 3(1), 2001.
"""

import hashlib
from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

ALL = -1  # the fold of who has no id: everybody counts


def fold_of(user_id: str | None, folds: int) -> int:
    """The fold of a person, 0..folds-1; ``ALL`` without an id."""
    if user_id is None:
        return ALL
    return int.from_bytes(hashlib.sha256(f"fold/{user_id}".encode()).digest()[:8]) % folds


class Encoding(BaseModel):
    """One column, standardised by ``mean`` and ``std`` over the training people.

    Attributes:
        folds: F, number of folds.
        prior: mean reward of a request without those of each fold's people, then of all; F + 1 numbers.
        words: for each word the same, drawn to the prior.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    folds: int
    mean: float
    std: float
    prior: tuple[float, ...]
    words: dict[str, tuple[float, ...]]

    def of(self, word: object, user_id: str | None) -> float:
        """What a person gets; a word that nobody else had is worth the prior."""
        known = self.words.get(word, self.prior) if isinstance(word, str) else self.prior
        return (known[fold_of(user_id, self.folds)] - self.mean) / self.std

    @classmethod
    def fit(
        cls,
        words: Sequence[object],
        user_ids: Sequence[str | None],
        requests: np.ndarray,
        rewards: np.ndarray,
        folds: int,
        smoothing: float,
    ) -> Self:
        """From the training people: B words and ids, and (B,) how many requests and what reward each had."""
        fold = np.array([fold_of(user_id, folds) for user_id in user_ids], np.int64)
        distinct = sorted({word for word in words if isinstance(word, str)})
        places = {word: i for i, word in enumerate(distinct)}
        which = np.array(
            [places.get(w, len(distinct)) if isinstance(w, str) else len(distinct) for w in words]
        )
        shape = (len(distinct) + 1, folds + 1)

        def without(amounts: np.ndarray) -> np.ndarray:
            within = np.zeros(shape)  # the last column stays empty: nobody is left out of what it stands for
            np.add.at(within, (which, fold), amounts)
            return within.sum(1, keepdims=True) - within

        count, total = without(requests), without(rewards)
        prior = total.sum(0) / np.maximum(count.sum(0), 1)
        table = (total + smoothing * prior) / (count + smoothing)
        table[-1] = prior
        given = table[which, fold]
        return cls(
            folds=folds,
            mean=float(given.mean()),
            std=float(given.std()) or 1.0,
            prior=tuple(prior.tolist()),
            words={word: tuple(table[i].tolist()) for word, i in places.items()},
        )

"""What rankings are like beyond being right: diverse, new, fair to the tail, and true to a person's taste.

With R(u) the k items recommended to u, p(i) the share of the log's acts that went to i:

    diversity        mean over pairs of R(u) of 1 - cos(x_i, x_j), x the item features (intra-list distance:
                     Ziegler et al. 2005, "Improving recommendation lists through topic diversification")
    novelty          mean over R(u) of -log2 p(i), self-information in bits (Zhou et al. 2010, PNAS 107, 4511)
    popularity       mean over R(u) of p(i) N: 1 if items are met regardless of popularity
    popularity_lift  (mean p in R(u) - mean p in u's history) / the latter, of the means over people
                     (Abdollahpouri et al. 2019, "The unfairness of popularity bias in recommendation")
    gini             of how often each of the N items is recommended: 0 all alike, 1 a single one
    miscalibration   mean KL(p(.|u) || (1 - a) q(.|u) + a p(.|u)), a = 0.01, natural logarithms, of the shares
                     of categories in history and recommendations (Steck 2018, "Calibrated
                     recommendations", section 3, all weights equal): 0 where the shares are the same
"""

from dataclasses import dataclass

import numpy as np

from recloop.evaluation.ranking import chunks

SMOOTHING = 0.01  # a of the miscalibration


@dataclass(frozen=True)
class Library:
    """The catalogue as these measures need it; N items, G categories.

    Attributes:
        features: float (N, F).
        popularity: float (N,), positive acts in the log that was learnt from; one is added to each, so
            that an item that nobody met has finite information.
        category: float (N, G), share of each category in an item; rows sum to 1.
    """

    features: np.ndarray
    popularity: np.ndarray
    category: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """float64 (N,): p."""
        smoothed = self.popularity.astype(np.float64) + 1
        return smoothed / smoothed.sum()


def beyond_accuracy(top: np.ndarray, history: np.ndarray, library: Library) -> dict[str, float]:
    """All measures of int64 (B, k) ``top`` with int64 (B, H) ``history``, padded with N.

    Measures that need a history are over the people who have one. NaN where there is nobody.
    """
    share, size = library.share, len(library.popularity)
    shown = np.bincount(top.ravel(), minlength=size)
    nobody = not len(top)
    past = (history < size).any(1)
    mine, before = share[top].mean(1), mean_over(share, history)
    lift = mine[past].mean() / before[past].mean() - 1 if past.any() else float("nan")
    return {
        "diversity": float(diversity(top, library.features).mean()) if not nobody else float("nan"),
        "novelty": float(-np.log2(share)[top].mean()) if not nobody else float("nan"),
        "popularity": float(mine.mean() * size) if not nobody else float("nan"),
        "popularity_lift": float(lift),
        "gini": gini(shown) if not nobody else float("nan"),
        "miscalibration": (
            float(miscalibration(top[past], history[past], library.category).mean())
            if past.any()
            else float("nan")
        ),
    }


def diversity(top: np.ndarray, features: np.ndarray) -> np.ndarray:
    """float64 (B,): mean cosine distance of the pairs in each row; 0 for a single item.

    The pairs' sum is (|sum of unit vectors|^2 - k) / 2, so that no pair is ever formed. An item without
    features is at distance 1 of all others.
    """
    k = top.shape[1]
    if k < 2:
        return np.zeros(len(top))
    length = np.linalg.norm(features.astype(np.float64), axis=1, keepdims=True)
    unit = np.divide(features, length, out=np.zeros(features.shape), where=length > 0)
    own = (unit**2).sum(1)
    found = np.empty(len(top))
    for part in chunks(len(top), k * features.shape[1]):
        total = unit[top[part]].sum(1)
        found[part] = 1 - ((total**2).sum(1) - own[top[part]].sum(1)) / (k * (k - 1))
    return found


def mean_over(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """float64 (B,): mean of float (N,) values over each row of int64 (B, H), padded with N; 0 if empty."""
    real = rows < len(values)
    return np.append(values, 0.0)[rows].sum(1) / np.maximum(real.sum(1), 1)


def gini(counts: np.ndarray) -> float:
    """Gini coefficient of non-negative numbers (N,); 0 where all are 0."""
    ordered, size = np.sort(counts).astype(np.float64), len(counts)
    total = ordered.sum()
    return float((2 * np.arange(1, size + 1) - size - 1) @ ordered / (size * total)) if total else 0.0


def miscalibration(top: np.ndarray, history: np.ndarray, category: np.ndarray) -> np.ndarray:
    """float64 (B,): KL of the history's shares of categories from the recommendations'."""
    found = np.empty(len(top))
    for part in chunks(len(top), (top.shape[1] + history.shape[1]) * category.shape[1]):
        wanted, given = _shares(history[part], category), _shares(top[part], category)
        mixed = (1 - SMOOTHING) * given + SMOOTHING * wanted
        ratio = np.divide(wanted, mixed, out=np.ones_like(wanted), where=wanted > 0)
        found[part] = (wanted * np.log(ratio)).sum(1)
    return found


def _shares(rows: np.ndarray, category: np.ndarray) -> np.ndarray:
    real = rows < len(category)
    padded = np.vstack([category, np.zeros((1, category.shape[1]))])
    return padded[rows].sum(1) / np.maximum(real.sum(1), 1)[:, None]

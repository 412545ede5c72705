"""How well predicted chances fit what was seen."""

import torch
from torch import Tensor


def reliability(predicted: Tensor, seen: Tensor, bins: int = 10) -> Tensor:
    """float64 (b, 3): per bin, b at most ``bins``, the cases, their mean chance and the share that happened.

    Bins are equally filled; equal chances share one.
    """
    edges = predicted.sort().values[torch.arange(1, bins) * len(seen) // bins]
    bin_of = torch.bucketize(predicted, edges.unique(), right=True)
    sums = torch.zeros(bins, 3, dtype=torch.float64)
    sums.index_add_(0, bin_of, torch.stack([torch.ones_like(predicted), predicted, seen], 1).double())
    sums = sums[sums[:, 0] > 0]
    return torch.cat([sums[:, :1], sums[:, 1:] / sums[:, :1]], 1)


def calibration_error(predicted: Tensor, seen: Tensor, bins: int = 10) -> float:
    """Expected calibration error of float (n,) chances of 0/1 events, over equally filled bins.

    Naeini, Cooper and Hauskrecht 2015, "Obtaining well calibrated probabilities using Bayesian
    binning", section 2.
    """
    if not len(seen):
        return 0.0
    cases, chance, share = reliability(predicted, seen, bins).T
    return float((cases * (chance - share).abs()).sum() / len(seen))


def ranking_quality(predicted: Tensor, seen: Tensor) -> float:
    """Area under the ROC curve: how often an event had a higher chance than a non-event, ties half.

    Both must occur (Hanley and McNeil 1982, "The meaning and use of the area under a ROC curve").
    """
    _, inverse, counts = torch.unique(predicted, return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0).double() - (counts.double() - 1) / 2)[inverse]
    events = (seen > 0).sum().double()
    others = len(seen) - events
    return float((rank[seen > 0].sum() - events * (events + 1) / 2) / (events * others))

"""Mean and standard deviation of a numeric column."""

from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

HUGE = 1e100  # a number beyond counts as that: the squares of larger ones overflow
PASSES = 10_000  # of few numbers; among many a wrong one is drawn in within a few


class Scale(BaseModel):
    """Mean and standard deviation of a numeric column."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: float
    std: float

    @classmethod
    def fit(cls, numbers: np.ndarray, farthest: float) -> Self:
        """Of these float64 numbers; a constant has the deviation 1.

        One that is more than ``farthest`` deviations from the mean counts as that far here too, or a single
        wrong one would make the others all alike: it is drawn in, and the two are computed again.
        """
        kept = numbers.clip(-HUGE, HUGE)
        for _ in range(PASSES):
            found = cls(mean=float(kept.mean()), std=float(kept.std()) or 1.0)
            bound = farthest * found.std
            if (np.abs(kept - found.mean) <= 1.01 * bound).all():
                break
            kept = kept.clip(found.mean - bound, found.mean + bound)
        return found

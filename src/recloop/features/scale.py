"""Mean and standard deviation of a numeric column."""

from collections.abc import Sequence
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict


class Scale(BaseModel):
    """Mean and standard deviation of a numeric column."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    mean: float
    std: float

    @classmethod
    def fit(cls, numbers: Sequence[float] | np.ndarray) -> Self:
        """Of these; a constant has the deviation 1."""
        return cls(mean=float(np.mean(numbers)), std=float(np.std(numbers)) or 1.0)

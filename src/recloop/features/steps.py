"""What preprocessing leaves: the catalogue's arrays, and one row per request."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np


class _Arrays:
    """Saved as one ``.npz`` without pickled objects."""

    def save(self, path: Path) -> None:
        """Write every field."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FileNotFoundError: nothing was saved there.
            KeyError: the file lacks a field.
        """
        with np.load(path, allow_pickle=False) as file:
            return cls(**{f.name: file[f.name] for f in fields(cls)})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Catalogue(_Arrays):
    """Per item, in index order.

    Attributes:
        features: float32 (N, F).
        popularity: float32 (N,), positive acts in the train split.
        available: bool (N,).
    """

    features: np.ndarray
    popularity: np.ndarray
    available: np.ndarray


@dataclass(frozen=True)
class Steps(_Arrays):
    """One row per request, ordered by person and time; R rows, K positions at most.

    Attributes:
        user: int64 (R,), index of the person within the split.
        session: int64 (R,), index of the session within the split.
        ts: int64 (R,), µs since 1970, UTC.
        profile: float32 (R, P).
        context: float32 (R, C).
        history: int64 (R, H), newest first, padded with N.
        slate: int64 (R, K), item indices padded with N.
        propensity: float64 (R, K), NaN where unknown or padding.
        position: int64 (R, K), logged positions, -1 where padding.
        clicked: int64 (R,), index into the row's slate of the first positive act, -1 for none.
        reward: float32 (R,), the worth of all feedback to the request.
        done: bool (R,), last of its session.
    """

    user: np.ndarray
    session: np.ndarray
    ts: np.ndarray
    profile: np.ndarray
    context: np.ndarray
    history: np.ndarray
    slate: np.ndarray
    propensity: np.ndarray
    position: np.ndarray
    clicked: np.ndarray
    reward: np.ndarray
    done: np.ndarray

    def __len__(self) -> int:
        return len(self.user)

    def observation(self) -> dict[str, np.ndarray]:
        """What a policy saw, for all rows."""
        return {"profile": self.profile, "context": self.context, "history": self.history}

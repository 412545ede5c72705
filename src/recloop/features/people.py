"""People column by column, as the specification reads them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from recloop.schema import User

Column = tuple[Sequence[Any], np.ndarray]


@dataclass(frozen=True)
class People:
    """B people.

    Attributes:
        ages: float64 (B,), NaN where unknown.
        columns: ``sex``, ``region`` and each attribute: its values, of which several may be equal and None is
            none, and int64 (B,), which of them a person has.
    """

    ages: np.ndarray
    columns: dict[str, Column]

    @classmethod
    def of(cls, users: Iterable[User | None]) -> Self:
        """These; None is a stranger, of whom nothing is known."""
        known = list(users)
        names = sorted({name for user in known if user is not None for name in user.attributes})
        told: dict[str, list] = {
            "sex": [None if u is None else u.sex for u in known],
            "region": [None if u is None else u.region for u in known],
        }
        for name in names:
            told.setdefault(name, [None if u is None else u.attributes.get(name) for u in known])
        ages = np.array([np.nan if u is None or u.age is None else u.age for u in known], float)
        return cls(ages, {name: (values, np.arange(len(known))) for name, values in told.items()})

    def take(self, rows: np.ndarray) -> Self:
        """These of them."""
        columns = {name: (values, which[rows]) for name, (values, which) in self.columns.items()}
        return type(self)(self.ages[rows], columns)

    def column(self, name: str) -> Column:
        """Of this name; of nobody's values where there is none."""
        return self.columns.get(name, ((None,), np.zeros(len(self.ages), np.int64)))

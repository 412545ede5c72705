"""People column by column, as the specification reads them."""

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from recloop.schema import User

Column = tuple[Sequence[Any], np.ndarray]


@dataclass(frozen=True)
class People:
    """B people.

    Attributes:
        ids: B user ids; None is a stranger.
        ages: float64 (B,), NaN where unknown.
        columns: ``sex``, ``region`` and each attribute: its values, of which several may be equal and None is
            none, and int64 (B,), which of them a person has.
    """

    ids: Sequence[str | None]
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
        ids = [None if user is None else user.user_id for user in known]
        return cls(ids, ages, {name: (values, np.arange(len(known))) for name, values in told.items()})

    def take(self, rows: np.ndarray) -> Self:
        """These of them."""
        columns = {name: (values, which[rows]) for name, (values, which) in self.columns.items()}
        return type(self)([self.ids[row] for row in rows], self.ages[rows], columns)

    def without(self, names: Container[str]) -> Self:
        """The same people without these columns."""
        columns = {name: column for name, column in self.columns.items() if name not in names}
        return type(self)(self.ids, self.ages, columns)

    def column(self, name: str) -> Column:
        """Of this name; of nobody's values where there is none."""
        return self.columns.get(name, ((None,), np.zeros(len(self.ages), np.int64)))

    def each(self, name: str) -> list:
        """The value of each person."""
        values, which = self.column(name)
        return [values[i] for i in which.tolist()]

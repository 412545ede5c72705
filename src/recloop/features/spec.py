"""How a person, a moment and a past become the arrays that a policy reads."""

import math
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from recloop.features.encoding import Encoding
from recloop.features.items import ItemSpec
from recloop.features.people import People
from recloop.features.scale import Scale
from recloop.schema import User

AGE_EDGES = (18, 25, 35, 45, 55, 65)
DAY_US = 86_400_000_000


class FeatureSpec(BaseModel):
    """The features of one data version; N items, P profile and C context columns, H acts of history.

    Attributes:
        item_ids: item id at each index 0..N-1; index N is padding.
        categories: for each categorical column of the profile (``sex``, ``region`` or an attribute's
            name) its known values; a value that is not among them falls into one column ``other``.
        scales: for each numeric attribute of the profile its mean and standard deviation.
        devices: known devices; others fall into one column.
        history: H.
        rating_positive: stars from which a rating is part of the history.
        ages: least and greatest; another counts as unknown.
        farthest: standard deviations beyond which a number is taken for that far.
        encodings: target encodings of columns of the profile.
        items: how items become features; None where they were made otherwise.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    item_ids: tuple[str, ...]
    categories: dict[str, tuple[str, ...]]
    scales: dict[str, Scale]
    devices: tuple[str, ...]
    history: int
    rating_positive: float
    ages: tuple[int, int] = (0, 120)
    farthest: float = 10.0
    encodings: dict[str, Encoding] = {}
    items: ItemSpec | None = None

    @cached_property
    def index(self) -> dict[str, int]:
        """Item index by item id."""
        return {item_id: i for i, item_id in enumerate(self.item_ids)}

    @property
    def profile_size(self) -> int:
        """P."""
        words = sum(len(values) + 1 for values in self.categories.values())
        return len(AGE_EDGES) + 2 + words + 2 * len(self.scales) + len(self.encodings)

    @property
    def context_size(self) -> int:
        """C."""
        return 4 + len(self.devices) + 1

    @property
    def profile_groups(self) -> dict[str, slice]:
        """Columns of the profile by what they tell of: ``age band``, categories, numbers, encodings."""
        sizes = [("age band", len(AGE_EDGES) + 2)]
        sizes += [(name, len(values) + 1) for name, values in self.categories.items()]
        sizes += [(name, 2) for name in self.scales]
        return _places(sizes + [(f"{name} encoded", 1) for name in self.encodings])

    @property
    def context_groups(self) -> dict[str, slice]:
        """Columns of the context by what they tell of: ``moment`` and ``device``."""
        return _places([("moment", 4), ("device", len(self.devices) + 1)])

    def profile(self, user: User | None) -> np.ndarray:
        """float32 (P,): one-hot age band and categories, standardised numbers; None: a stranger."""
        vector = np.zeros(self.profile_size, np.float32)
        age = None if user is None else user.age
        band = len(AGE_EDGES) + 1
        if age is not None and self.ages[0] <= age <= self.ages[1]:
            band = int(np.searchsorted(AGE_EDGES, age, side="right"))
        vector[band] = 1
        at = len(AGE_EDGES) + 2
        for name, values in self.categories.items():
            value = None if user is None else _column(user, name)
            vector[at + (values.index(value) if value in values else len(values))] = 1
            at += len(values) + 1
        for name, scale in self.scales.items():
            number = None if user is None else user.attributes.get(name)
            known = isinstance(number, int | float)
            if known:
                vector[at] = np.clip((number - scale.mean) / scale.std, -self.farthest, self.farthest)  # type: ignore[operator]
            else:
                vector[at + 1] = 1
            at += 2
        for name, encoding in self.encodings.items():
            word, user_id = (None, None) if user is None else (_column(user, name), user.user_id)
            vector[at] = encoding.of(word, user_id)
            at += 1
        return vector

    def profiles(self, users: Iterable[User | None]) -> np.ndarray:
        """float32 (B, P): the rows that ``profile`` gives, column by column for many people at once."""
        return self.matrix(People.of(users))

    def matrix(self, people: People) -> np.ndarray:
        """float32 (B, P): the profiles of these people."""
        rows, matrix = (
            np.arange(len(people.ages)),
            np.zeros((len(people.ages), self.profile_size), np.float32),
        )
        band = np.searchsorted(AGE_EDGES, people.ages, side="right")
        known = (people.ages >= self.ages[0]) & (people.ages <= self.ages[1])
        matrix[rows, np.where(known, band, len(AGE_EDGES) + 1)] = 1
        at = len(AGE_EDGES) + 2
        for name, words in self.categories.items():
            places: dict[str | None, int] = {word: i for i, word in enumerate(words)}
            values, which = people.column(name)
            found = [places.get(v, len(words)) if isinstance(v, str) else len(words) for v in values]
            matrix[rows, at + np.array(found, np.int64)[which]] = 1
            at += len(words) + 1
        for name, scale in self.scales.items():
            values, which = people.column(name)
            known = np.array([isinstance(value, int | float) for value in values], bool)
            numbers = np.array([v if k else scale.mean for v, k in zip(values, known, strict=True)], float)
            matrix[:, at] = np.clip((numbers - scale.mean) / scale.std, -self.farthest, self.farthest)[which]
            matrix[:, at + 1] = ~known[which]
            at += 2
        for name, encoding in self.encodings.items():
            given = zip(people.each(name), people.ids, strict=True)
            matrix[:, at] = [encoding.of(word, user_id) for word, user_id in given]
            at += 1
        return matrix

    def context(self, device: str, ts: int) -> np.ndarray:
        """float32 (C,): hour and weekday on the circle, one-hot device; ``ts`` in µs since 1970, UTC."""
        return self.contexts([device], np.array([ts], np.int64))[0]

    def contexts(self, devices: Sequence[str], ts: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """float32 (B, C) for int64 (B,) ``ts`` in µs since 1970, UTC; ``which``: index in ``devices``."""
        days, moment = np.divmod(ts, DAY_US)
        day = moment / DAY_US * math.tau
        week = np.arange(7) / 7 * math.tau
        weekday = (days + 3) % 7  # 1970-01-01 was a Thursday
        places = {device: i for i, device in enumerate(self.devices)}
        matrix = np.zeros((len(ts), self.context_size), np.float32)
        matrix[:, 0], matrix[:, 1] = np.sin(day), np.cos(day)
        matrix[:, 2:4] = np.stack([np.sin(week), np.cos(week)], 1)[weekday]
        used = np.array([4 + places.get(device, len(self.devices)) for device in devices], np.int64)
        matrix[np.arange(len(ts)), used if which is None else used[which]] = 1
        return matrix

    def history_indices(self, item_ids: Sequence[str]) -> np.ndarray:
        """int64 (H,): newest first, items that are not known left out, padded with N."""
        known = [self.index[i] for i in item_ids if i in self.index][: self.history]
        return np.array(known + [len(self.item_ids)] * (self.history - len(known)), np.int64)

    def observation(
        self, user: User | None, history: Sequence[str], device: str, ts: int
    ) -> dict[str, np.ndarray]:
        """The observation of one request, B = 1."""
        return {
            "profile": self.profile(user)[None],
            "context": self.context(device, ts)[None],
            "history": self.history_indices(history)[None],
        }

    def save(self, path: Path) -> None:
        """Write as JSON; equal specifications give equal bytes."""
        path.write_text(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote; raises pydantic's ValidationError for anything else."""
        return cls.model_validate_json(path.read_bytes())


def _places(sizes: list[tuple[str, int]]) -> dict[str, slice]:
    ends = np.cumsum([size for _, size in sizes]).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes, ends, strict=True)}


def _column(user: User, name: str) -> str | None:
    if name in ("sex", "region"):
        return getattr(user, name)
    value = user.attributes.get(name)
    return value if isinstance(value, str) else None

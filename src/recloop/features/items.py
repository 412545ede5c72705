"""How an item becomes features: category, price, attributes, and the words of its description.

Words are hashed with signs (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML
2009): each adds sign(word) to column hash(word), so that words that share a column cancel on average. A row
has length 1.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal
from unicodedata import normalize

import numpy as np
from pydantic import BaseModel, ConfigDict

from recloop.features.scale import Scale

WORD = re.compile(r"\w+")
CHUNK = 4096  # items whose words are hashed at once
Record = Mapping[str, Any]


class Column(BaseModel):
    """One column of an item: its ``words`` get a column each, or its ``scale`` standardises it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["category", "price", "attribute"]
    name: str
    words: tuple[str, ...] | None = None
    scale: Scale | None = None

    def values(self, items: Sequence[Record]) -> list[Any]:
        """What it is of each item: a list of words, or a number or None."""
        if self.kind == "category":
            return [[item["category"]] for item in items]
        if self.kind == "price":
            return [None if item["price"] is None else np.log1p(item["price"]) for item in items]
        found = [item["attributes"].get(self.name) for item in items]
        if self.words is None:
            return [value if isinstance(value, int | float) else None for value in found]
        return [[] if value is None else str(value).split("|") for value in found]

    def matrix(self, items: Sequence[Record], farthest: float) -> np.ndarray:
        """float64 (N, words), a 1 for each; or (N, 2), the number, ``farthest`` at most, and its absence."""
        values = self.values(items)
        if self.scale is None:
            places = {word: i for i, word in enumerate(self.words or ())}
            matrix = np.zeros((len(items), len(places)))
            for i, row in enumerate(values):
                matrix[i, [places[word] for word in row if word in places]] = 1
            return matrix
        numbers = np.array([np.nan if v is None else v for v in values], float)
        missing = np.isnan(numbers)
        standard = np.clip((numbers - self.scale.mean) / self.scale.std, -farthest, farthest)
        return np.stack([np.where(missing, 0, standard), missing], 1)


class Text(BaseModel):
    """Hashed words of the description; not of the title, which may be newer than the acts (``item_times``).

    Attributes:
        columns: C, of the hashing.
        components: (D, C), directions onto which the columns are projected; none: the columns themselves.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: int
    components: tuple[tuple[float, ...], ...] = ()

    def hashed(self, items: Sequence[Record]) -> Iterator[np.ndarray]:
        """float64 (n, C), some items at a time."""
        for start in range(0, len(items), CHUNK):
            part = items[start : start + CHUNK]
            matrix = np.zeros((len(part), self.columns))
            for row, item in zip(matrix, part, strict=True):
                for word in WORD.findall(_folded(item["text"] or "")):
                    number, sign = _hash(word)
                    row[number % self.columns] += sign
            length = np.linalg.norm(matrix, axis=1, keepdims=True)
            yield matrix / np.where(length, length, 1)

    def matrix(self, items: Sequence[Record]) -> np.ndarray:
        """float64 (N, C), or (N, D)."""
        directions = np.array(self.components).T if self.components else np.eye(self.columns)
        return np.concatenate([part @ directions for part in self.hashed(items)])


class ItemSpec(BaseModel):
    """The features of items: blocks of columns, then those of the texts.

    Attributes:
        columns: the blocks.
        text: None where texts are not read.
        kept: which of all these columns are features; None: all.
        farthest: standard deviations beyond which a number is taken for that far; None: none is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    columns: tuple[Column, ...]
    text: Text | None = None
    kept: tuple[int, ...] | None = None
    farthest: float | None = None

    def matrix(self, items: Sequence[Record]) -> tuple[np.ndarray, np.ndarray]:
        """float32 (N, F) of ``schema.Item`` as dicts; and what each column tells of, str (F,)."""
        farthest = np.inf if self.farthest is None else self.farthest
        blocks = [(column.name, column.matrix(items, farthest)) for column in self.columns]
        if self.text is not None:
            blocks.append(("text", self.text.matrix(items)))
        groups = np.repeat([name for name, _ in blocks], [block.shape[1] for _, block in blocks])
        matrix = np.concatenate([block for _, block in blocks], 1).astype(np.float32)
        if self.kept is None:
            return matrix, groups
        kept = list(self.kept)
        return matrix[:, kept], groups[kept]


def _folded(text: str) -> str:
    """As the search folds it: case, width and how Hangul and accents are composed make no other word."""
    return text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold())


@lru_cache(maxsize=2**16)
def _hash(word: str) -> tuple[int, int]:
    digest = hashlib.sha256(word.encode()).digest()
    return int.from_bytes(digest[:8]), 1 if digest[8] & 1 else -1

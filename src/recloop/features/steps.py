"""What preprocessing leaves: the catalogue's arrays, and one row per request."""

import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

KINDS = {"f": "numbers", "i": "whole numbers", "b": "truth values", "U": "words"}
CHUNK = 50_000  # requests that are written at once
AGAIN = "make the features again with `dvc repro -f preprocess`"


class FeaturesError(ValueError):
    """A file of features cannot be used; the message names the file and the array, and says what to do."""


def write_steps(path: Path, rows: int, made: Mapping[str, Callable[[slice], np.ndarray]]) -> None:
    """What ``Steps.save`` would write, to the byte; some rows are written while the next ones are made."""
    with ThreadPoolExecutor(1) as beside, zipfile.ZipFile(path, "w") as file:
        for name, make in made.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                header = np.lib.format.header_data_from_array_1_0(make(slice(1)))
                header["shape"] = (rows, *header["shape"][1:])
                written: Future = beside.submit(np.lib.format.write_array_header_1_0, entry, header)
                for start in range(0, rows, CHUNK):
                    block = np.ascontiguousarray(make(slice(start, start + CHUNK)))
                    written.result()
                    written = beside.submit(entry.write, block.data)
                written.result()


class _Arrays:
    """Saved as one ``.npz`` without pickled objects; ``layout``: each array's kind and dimensions."""

    layout: ClassVar[dict[str, tuple[str, int]]]

    def save(self, path: Path) -> None:
        """Write every field."""
        np.savez(path, **{f.name: getattr(self, f.name) for f in fields(self)})  # type: ignore[arg-type]

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote.

        Raises:
            FeaturesError: there is no such file, it is damaged, it lacks an array, or one is of another
                kind or length.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise FeaturesError(f"{path} cannot be read ({error}): {AGAIN}") from error
        for name, (kind, dimensions) in cls.layout.items():
            if name not in found:
                raise FeaturesError(f"{path} lacks the array `{name}`: {AGAIN}")
            array = found[name]
            if array.dtype.kind != kind or array.ndim != dimensions:
                raise FeaturesError(
                    f"{path}: `{name}` must be {dimensions}-dimensional and hold {KINDS[kind]}, not"
                    f" {array.ndim}-dimensional {array.dtype}: {AGAIN}"
                )
        found = {name: found[name] for name in cls.layout}
        rows = {len(array) for name, array in found.items() if name != "groups"}
        if len(rows) > 1:
            raise FeaturesError(f"{path}: the arrays have {sorted(rows)} rows, not equally many: {AGAIN}")
        return cls(**found)


@dataclass(frozen=True)
class Catalogue(_Arrays):
    """Per item, in index order.

    Attributes:
        features: float32 (N, F).
        popularity: float32 (N,), positive acts in the train split.
        available: bool (N,).
        groups: str (F,), what each column of ``features`` tells of; ``features`` where nobody said.
    """

    layout: ClassVar = {
        "features": ("f", 2),
        "popularity": ("f", 1),
        "available": ("b", 1),
        "groups": ("U", 1),
    }
    features: np.ndarray
    popularity: np.ndarray
    available: np.ndarray
    groups: np.ndarray = field(default_factory=lambda: np.zeros(0, "U1"))

    def __post_init__(self) -> None:
        if not len(self.groups):
            object.__setattr__(self, "groups", np.full(self.features.shape[1], "features"))


@dataclass(frozen=True)
class Acts(_Arrays):
    """The positive acts of a split, whichever request they answer, by person and time; M rows.

    Attributes:
        user: int64 (M,), index of the person within the split.
        item: int64 (M,).
        ts: int64 (M,), µs since 1970, UTC.
    """

    layout: ClassVar = {"user": ("i", 1), "item": ("i", 1), "ts": ("i", 1)}
    user: np.ndarray
    item: np.ndarray
    ts: np.ndarray


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

    layout: ClassVar = {
        "user": ("i", 1), "session": ("i", 1), "ts": ("i", 1), "profile": ("f", 2), "context": ("f", 2),
        "history": ("i", 2), "slate": ("i", 2), "propensity": ("f", 2), "position": ("i", 2),
        "clicked": ("i", 1), "reward": ("f", 1), "done": ("b", 1),
    }  # fmt: skip
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

"""Whether what a policy is judged on has found its way into what it learnt from or what it sees.

Three ways in, each with its check; a check says what leaked, where, and how much:

    history    a row's history holds an item that its person had not acted on before that row
    training   a row that was learnt from is not older than the split
    items      an item's features are not what the log before the split makes of it
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recloop.evaluation.protocols import Hidden
from recloop.features import Acts, Steps


@dataclass(frozen=True)
class Leak:
    """What should not have been known.

    Attributes:
        way: how it came in.
        count: rows, or items, that it concerns.
        checked: of how many.
        why: one sentence for people.
    """

    way: Literal["history", "training", "items"]
    count: int
    checked: int
    why: str


class LeakageError(ValueError):
    """Figures would be of a policy that has seen the answers."""


def history_leaks(steps: Steps, acts: Acts, n_items: int, rows: np.ndarray | None = None) -> list[Leak]:
    """Rows of the steps (int64, all by default) whose history holds what its person did only later.

    The target of a row is among it: it is acted on at that row, not before. An item that was acted on
    before and again is no leak.
    """
    rows = np.arange(len(steps)) if rows is None else rows
    history, user, ts = steps.history[rows], steps.user[rows], steps.ts[rows]
    real = history < n_items
    entry, _ = np.nonzero(real)
    first = _first_times(acts, n_items)
    keys = user[entry] * n_items + history[real]
    at = np.searchsorted(first[0], keys)
    known = at < len(first[0])
    at = np.minimum(at, max(len(first[0]) - 1, 0))
    known &= (first[0][at] == keys) & (first[1][at] < ts[entry]) if len(first[0]) else False
    bad = np.unique(entry[~known])
    if not len(bad):
        return []
    why = f"{len(bad)} of {len(rows)} histories hold an item that the person acted on only later"
    return [Leak("history", len(bad), len(rows), f"{why}; the first is row {rows[bad[0]]}")]


def hidden_leaks(hidden: Hidden, steps: Steps, acts: Acts) -> list[Leak]:
    """``history_leaks`` of the rows at which a protocol observes people."""
    return history_leaks(steps, acts, hidden.n_items, hidden.rows)


def training_leaks(ts: np.ndarray, at: int) -> list[Leak]:
    """Rows learnt from, of int64 (R,) times, at or after the split ``at`` (µs since 1970)."""
    late = int((ts >= at).sum())
    if not late:
        return []
    return [Leak("training", late, len(ts), f"{late} of {len(ts)} training rows are not before the split")]


def item_leaks(used: np.ndarray, before: np.ndarray) -> list[Leak]:
    """Items whose float (N,) or (N, F) features differ from those made of the log before the split."""
    differ = ~np.isclose(used, before, rtol=1e-6, atol=1e-9, equal_nan=True).reshape(len(used), -1).all(1)
    if not differ.any():
        return []
    why = f"{int(differ.sum())} of {len(used)} items have other features than the log before the split gives"
    return [Leak("items", int(differ.sum()), len(used), f"{why}; the first is item {int(differ.argmax())}")]


def popularity_before(acts: Acts, n_items: int, at: int | None = None) -> np.ndarray:
    """float32 (N,): positive acts per item, before ``at`` where it is given."""
    item = acts.item if at is None else acts.item[acts.ts < at]
    return np.bincount(item, minlength=n_items).astype(np.float32)


def refuse(leaks: Sequence[Leak]) -> None:
    """Stop where there is a leak.

    Raises:
        LeakageError: with every leak's sentence.
    """
    if leaks:
        raise LeakageError("; ".join(leak.why for leak in leaks) + ": figures from these would be too good")


def _first_times(acts: Acts, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """Ascending keys user N + item, and when each was first acted on."""
    key = acts.user * n_items + acts.item
    order = np.lexsort((acts.ts, key))
    key, start = np.unique(key[order], return_index=True)
    return key, acts.ts[order][start]

"""What is hidden of each person and has to be found among all N items: the last act, or all after a time.

No metric here is sampled: the whole catalogue is ranked, but for what the person had acted on before.
"""

from dataclasses import dataclass

import numpy as np

from recloop.evaluation.beyond import Library, beyond_accuracy
from recloop.evaluation.ranking import chunks, coverage, found_in, means, per_person, top_k
from recloop.features import Steps
from recloop.policy import Scorer


@dataclass(frozen=True)
class Hidden:
    """Of each person what has to be found, and what was known before; B people, N items.

    Attributes:
        observation: what a policy sees, B rows.
        targets: int64 (B, R), the items to be found, padded with N.
        person: int64 (M,), ascending; with ``item`` what was acted on before, which is not ranked.
        item: int64 (M,).
        rows: int64 (B,), row of the steps at which each person is observed.
        n_items: N.
    """

    observation: dict[str, np.ndarray]
    targets: np.ndarray
    person: np.ndarray
    item: np.ndarray
    rows: np.ndarray
    n_items: int

    def __len__(self) -> int:
        return len(self.targets)

    def consumed(self, part: slice) -> np.ndarray:
        """bool (b, N): what these people had acted on before; a target is never among it."""
        low, high = np.searchsorted(self.person, [part.start, part.stop])
        matrix = np.zeros((part.stop - part.start, self.n_items + 1), bool)
        matrix[self.person[low:high] - part.start, self.item[low:high]] = True
        np.put_along_axis(matrix, self.targets[part], False, 1)
        return matrix[:, :-1]


def leave_last_out(steps: Steps, n_items: int) -> Hidden:
    """Hide the last positive act of every person who has one."""
    rows, item = _acts(steps, n_items)
    user = steps.user[rows]
    last = np.append(user[1:] != user[:-1], True)[: len(user)]  # rows are ordered by person and time
    place = np.cumsum(last) - last
    return _hide(steps, n_items, rows[last], item[last][:, None], place, item)


def time_split(steps: Steps, n_items: int, at: int) -> Hidden:
    """Hide every item that people acted on at or after ``at`` (µs since 1970, UTC) and not before.

    A person is observed at the first request from then on. Who then acts on nothing new is left out.
    """
    rows, item = _acts(steps, n_items)
    later = steps.ts >= at
    first = later & np.append(True, (steps.user[1:] != steps.user[:-1]) | ~later[:-1])[: len(later)]
    seen = np.flatnonzero(first)
    person = _places(steps.user[seen], int(steps.user.max(initial=-1)) + 1)[steps.user[rows]]
    before = (person >= 0) & (steps.ts[rows] < at)
    after = (person >= 0) & (steps.ts[rows] >= at)
    width = n_items + 1
    past = np.arange(len(seen))[:, None] * width + steps.history[seen]
    known = np.concatenate([person[before] * width + item[before], past.ravel()])
    new, target = np.divmod(np.setdiff1d(person[after] * width + item[after], known), width)
    who, start, counts = np.unique(new, return_index=True, return_counts=True)
    targets = np.full((len(who), int(counts.max(initial=1))), n_items)
    targets[np.repeat(np.arange(len(who)), counts), np.arange(len(new)) - np.repeat(start, counts)] = target
    left = _places(who, len(seen))[person[before]]
    return _hide(steps, n_items, seen[who], targets, left[left >= 0], item[before][left >= 0])


def _places(chosen: np.ndarray, size: int) -> np.ndarray:
    """int64 (size,): where each number stands in ``chosen``, -1 where it does not."""
    places = np.full(size, -1)
    places[chosen] = np.arange(len(chosen))
    return places


def _acts(steps: Steps, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows with a positive act on a known item, and int64 (M,) the items."""
    positive = np.flatnonzero(steps.clicked >= 0)
    item = steps.slate[positive, steps.clicked[positive]]
    known = item < n_items
    return positive[known], item[known]


def _hide(
    steps: Steps,
    n_items: int,
    rows: np.ndarray,
    targets: np.ndarray,
    person: np.ndarray,
    item: np.ndarray,
) -> Hidden:
    """What was acted on before are the given acts and the history that is seen."""
    history = steps.history[rows]
    people = np.concatenate([person, np.repeat(np.arange(len(rows)), history.shape[1])])
    items = np.concatenate([item, history.ravel()])
    order = np.argsort(people, kind="stable")
    observation = {name: x[rows] for name, x in steps.observation().items()}
    return Hidden(observation, targets, people[order], items[order], rows, n_items)


def rank(
    score: Scorer, hidden: Hidden, k: int, seed: int, sold_out: np.ndarray | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """int64 (B, k) best items of a scorer that ranks all items but bool (N,) ``sold_out``, and the metrics
    per person (``ranking.per_person``).

    A hidden item that is sold out by now stays in the ranking.
    """
    rng = np.random.default_rng([seed, 6])
    tops = [np.empty((0, min(k, hidden.n_items)), np.int64)]
    for part in chunks(len(hidden), hidden.n_items):
        excluded = hidden.consumed(part)
        if sold_out is not None:
            padded = np.hstack([excluded | sold_out, np.zeros((len(excluded), 1), bool)])
            np.put_along_axis(padded, hidden.targets[part], False, 1)
            excluded = padded[:, :-1]
        scores = score({name: x[part] for name, x in hidden.observation.items()})
        tops.append(top_k(scores, k, rng, excluded))
    top = np.concatenate(tops)
    return top, per_person(*found_in(top, hidden.targets, hidden.n_items))


def rank_all(
    score: Scorer,
    hidden: Hidden,
    k: int,
    seed: int,
    sold_out: np.ndarray | None = None,
    library: Library | None = None,
) -> dict[str, float]:
    """``people``, the means at k, ``coverage``, and given the ``library`` what ``beyond`` measures."""
    top, people = rank(score, hidden, k, seed, sold_out)
    figures = {"people": float(len(top))} | means(people) | {"coverage": coverage(top, hidden.n_items)}
    if library is None:
        return figures
    return figures | beyond_accuracy(top, hidden.observation["history"], library)

"""The protocol with several hidden items a person, for what one item each cannot tell from luck.

Of every person the last ``held`` items are the test, those before them the validation, the rest is learnt
from. Each is asked for when all before it are known, as when the person comes back; no model is fitted again.
A moment is a person and one of those items. Moments of one person lie together, and are no independent
draws: intervals resample people.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from recloop.evaluation.next_item.sequences import FEWEST, Log, Part, TooLittleError


@dataclass(frozen=True)
class LastFew(Log):
    """U people; ``known`` has a row, and ``hidden`` an entry, for each of U x ``held`` moments."""

    held: int

    @classmethod
    def of(cls, log: Log, held: int) -> Self:
        """The people with items enough.

        Raises:
            TooLittleError: there are none.
        """
        fewest = FEWEST + 2 * (held - 1)
        there = [at for at, row in enumerate(log.items) if len(row) >= fewest]
        if not there:
            raise TooLittleError(f"nobody has {fewest} ratings or more: hold out fewer")
        return cls([log.items[at] for at in there], [log.rewards[at] for at in there], log.count, held)

    def learnt(self) -> Log:
        """What models are fitted on."""
        end = -2 * self.held
        return Log([row[:end] for row in self.items], [row[:end] for row in self.rewards], self.count)

    def known(self, part: Part) -> Log:
        """What is known at each moment."""
        moments = list(self._moments(part))
        items = [self.items[row][:at] for row, at in moments]
        return Log(items, [self.rewards[row][:at] for row, at in moments], self.count)

    def hidden(self, part: Part) -> tuple[np.ndarray, np.ndarray]:
        """int64 (U x held,) items to be found, float64 (U x held,) their rewards."""
        moments = list(self._moments(part))
        found = np.array([self.items[row][at] for row, at in moments])
        return found, np.array([self.rewards[row][at] for row, at in moments])

    def _moments(self, part: Part) -> Iterator[tuple[int, int]]:
        back = 2 * self.held if part == "validation" else self.held
        for row, items in enumerate(self.items):
            yield from ((row, len(items) - back + place) for place in range(self.held))

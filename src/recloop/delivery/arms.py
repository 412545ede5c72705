"""Experiments that the gateway runs: what a person's arms change in an answer, and what is logged of it.

A person is exposed where an arm could have made a difference, in all arms alike: an experiment on the
slate's size where the request leaves the size open, an experiment on who serves while routing has every
slot that its arms name and no rollout tries a challenger (whose shares it would upset).
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from recloop.delivery.routing import Routing
from recloop.experiments.catalogue import Standing
from recloop.store import Exposure

REMEMBERED = 100_000  # people whose exposure is on disk, so that it is not written again


@dataclass(frozen=True)
class Given:
    """What one request gets.

    Attributes:
        size: of the slate; None: as usual.
        colours: slots to ask, in order.
        met: exposures to log.
    """

    size: int | None
    colours: list[str]
    met: Sequence[Exposure] = ()


class Arms:
    """The experiments of one gateway, and whom it has exposed."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def given(
        self, running: Iterable[Standing], routing: Routing | None, user_id: str, size_is_open: bool, ts: int
    ) -> Given:
        """The person's arms; ``ts`` is the request's, in µs since 1970."""
        size, colours = None, routing.order(user_id) if routing else []
        met = []
        for standing in running:
            if not _applies(standing, routing, size_is_open):
                continue
            if (arm := standing.arm_of(user_id)) is None:
                continue
            what = standing.experiment.gives.get(arm, "")
            if what.startswith("slate:"):
                size = int(what.removeprefix("slate:"))
            elif what and routing and (first := slot_of(what, routing)):
                colours = [first, *(c for c in (*colours, *sorted(routing.slots)) if c != first)][:2]
            if (standing.experiment.name, user_id) not in self._known:
                met.append(Exposure(standing.experiment.name, user_id, arm, ts))
        return Given(size, colours, met)

    def logged(self, met: Iterable[Exposure]) -> None:
        """These are on disk."""
        for one in met:
            self._known[one.experiment, one.user_id] = None
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)


def slot_of(what: str, routing: Routing) -> str | None:
    """The colour that ``policy:NAME`` or ``slot:COLOUR`` means; None where routing has none."""
    kind, _, name = what.partition(":")
    if kind == "slot":
        return name if name in routing.slots else None
    return next((colour for colour, target in routing.slots.items() if target.policy == name), None)


def _applies(standing: Standing, routing: Routing | None, size_is_open: bool) -> bool:
    here = standing.experiment
    if here.changes == "slate":
        return size_is_open
    if here.changes != "slot" or routing is None or routing.challenger is not None:
        return False
    return all(slot_of(what, routing) is not None for what in here.gives.values())

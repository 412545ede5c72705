"""After the switch: the old champion's slot stands by for ``keep_warm_seconds``, then it is stopped.

When that is due is in the store, so that whoever looks next does it: ``recloop up`` every second, each
release, or a person with ``recloop rollout retire``.
"""

from sqlalchemy import Engine

from recloop.delivery import rollout, slots
from recloop.delivery.lease import holder, take
from recloop.delivery.records import find_promoted
from recloop.delivery.rollout import Conflict, Fence
from recloop.delivery.routing import read_routing
from recloop.delivery.wording import words
from recloop.schema import now_us
from recloop.settings import Places


def left_warm(engine: Engine, keep: float) -> float | None:
    """Seconds until the slot that stands by is due, at most 0 where it is; None where none stands by."""
    with engine.connect() as connection:
        found = find_promoted(connection)
    begun = rollout.began(engine, found.id, "promoted") if found else None
    return None if begun is None else keep - (now_us() - begun.ts) / 1e6


def tidy(where: Places, engine: Engine, who: str, keep: float) -> list[str]:
    """Retire the slot that has stood by for ``keep`` seconds; stop slots that nothing routes to.

    Nothing is done while a rollout is open or a controller is under way: they know what they need.

    Returns:
        The slots that were stopped.
    """
    left = left_warm(engine, keep)
    if (left is None or left > 0) and not _strays(where, engine):
        return []
    if holder(engine):
        return []
    try:
        with take(engine, who) as lease:  # of one that died the lease is free after its term
            if rollout.current(engine) is not None:
                return []
            if left is not None and left <= 0:
                retire(engine, who, words("stood_by", seconds=keep), lease.check)
            return [colour for colour in _strays(where, engine) if slots.stop(where, colour)]
    except Conflict:
        return []


def retire(engine: Engine, who: str, why: str, fence: Fence | None = None) -> None:
    """Take the slot that stands by out of routing; its rollout cannot be rolled back any more.

    Raises:
        Conflict: somebody was faster.
    """
    found = read_routing(engine)
    if found is not None:
        rollout.retire(engine, slots.other(found[1].champion), who, why, fence)


def _strays(where: Places, engine: Engine) -> list[str]:
    """Slots that run here although nothing routes to them and no rollout is open."""
    found = read_routing(engine)
    if found is None or rollout.current(engine) is not None:
        return []
    return [colour for colour in slots.COLOURS if colour not in found[1].slots and slots.alive(where, colour)]

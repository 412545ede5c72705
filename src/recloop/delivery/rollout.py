"""The rollout state machine. A transition and its routing are one transaction, or nothing.

``pending`` (the challenger's slot starts) → ``shadow`` (it gets copies of requests) → ``canary`` (it gets a
share of the people, which grows step by step) → ``ab`` (an A/B test of planned size) → ``promoted`` (the old
champion's slot stands by) → ``retired`` or ``rolled_back``; shadow and A/B test may be left out. From those
before ``promoted`` also ``paused`` and back, ``refused`` (by a gate) and ``aborted`` (by a person). Every
transition is a compare-and-set on the state, so that of two controllers one wins and the other gets
``Conflict``. What a controller does carries a ``fence`` as well, which is asked within the transaction
whether it still may (``lease.Lease.check``); a person needs none.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, func, select

from recloop.delivery import transition
from recloop.delivery.records import (
    Conflict,
    Rollout,
    Step,
    Transition,
    began,
    current,
    find,
    find_open,
    find_promoted,
    find_step,
    history,
    looks_of,
    paused_in,
    salt_of,
    step_of,
    transitions_of,
)
from recloop.delivery.routing import Routing, Target, newest
from recloop.delivery.transition import OPEN, Fence, Reason
from recloop.schema import now_us
from recloop.store.tables import impressions, rollouts

__all__ = [
    "OPEN",
    "Conflict",
    "Fence",
    "Rollout",
    "Step",
    "Transition",
    "abort",
    "began",
    "begin",
    "current",
    "find",
    "grow",
    "history",
    "install",
    "looks_of",
    "note_look",
    "pause",
    "paused_in",
    "promote",
    "refuse",
    "resume",
    "retire",
    "roll_back",
    "start_ab",
    "start_canary",
    "start_shadow",
    "step_of",
    "transitions_of",
]


def install(
    engine: Engine, colour: str, target: Target, who: str, why: str, fence: Fence | None = None
) -> None:
    """Make a slot the only one, as for the first champion or after a restart at another address.

    Raises:
        Conflict: a rollout is open, or another controller wrote the routing at the same time.
    """

    def route(connection: Connection, _: Routing | None) -> Routing:
        if open_one := find_open(connection):
            raise Conflict(f"rollout {open_one.id} is {open_one.state}: promote or abort it first")
        return Routing({colour: target}, colour)

    transition.reroute(engine, route, Reason(who, why), fence)


def retire(engine: Engine, colour: str, who: str, why: str, fence: Fence | None = None) -> None:
    """Take a slot that only stands by out of routing, so that it can be stopped.

    The rollout whose old champion stood by there becomes ``retired``: it cannot be rolled back any more.

    Raises:
        Conflict: the slot serves people, or another controller wrote the routing at the same time.
    """

    def route(connection: Connection, here: Routing | None) -> Routing | None:
        if here is None:
            return None
        if colour in (here.champion, here.challenger, here.shadow):
            raise Conflict(f"slot {colour!r} serves people or is a shadow: promote or abort first")
        slots = {name: target for name, target in here.slots.items() if name != colour}
        done = find_promoted(connection)
        if done and all(target.policy != done.champion for target in slots.values()):
            if transition.swap(connection, done.id, ("promoted",), "retired") is None:
                raise Conflict(f"rollout {done.id} was rolled back meanwhile")
            transition.note(connection, done.id, "promoted", "retired", Reason(who, why))
        return replace(here, slots=slots)

    transition.reroute(engine, route, Reason(who, why), fence)


def begin(engine: Engine, challenger: str, who: str, why: str, fence: Fence | None = None) -> Rollout:
    """Open a rollout; people see nothing of it yet.

    Raises:
        Conflict: another one is open, or there is no champion to challenge.
    """
    now = now_us()
    row = {"challenger": challenger, "state": "pending", "open": True, "ts": now}
    with transition.transaction(engine, fence) as connection:
        number = connection.execute(rollouts.insert().returning(rollouts.c.id), row).scalar_one()
        found = newest(connection)
        if found is None:
            raise Conflict("there is no champion to challenge: install the first slot")
        champion = found[1].slots[found[1].champion].policy
        connection.execute(rollouts.update().where(rollouts.c.id == number).values(champion=champion))
        transition.note(connection, number, "", "pending", Reason(who, why))
    return Rollout(number, challenger, champion, "pending", now)


def start_shadow(
    engine: Engine,
    rollout_id: int,
    colour: str,
    target: Target,
    share: float,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """Give the challenger's slot copies of a share of the requests; people see nothing of it.

    Raises:
        Conflict: the rollout is not pending, or the slot is the champion's.
    """

    def route(_: Connection, here: Routing) -> Routing:
        slots = _beside(here, colour, target)
        return Routing(slots, here.champion, salt=salt_of(rollout_id), shadow=colour, shadow_share=share)

    told = {"shadow_share": share, "slot": colour, "gate": dict(figures or {})}
    transition.step(engine, rollout_id, ("pending",), "shadow", Reason(who, why, told), route, fence)


def start_canary(
    engine: Engine,
    rollout_id: int,
    colour: str,
    target: Target,
    share: float,
    who: str,
    why: str,
    later: Sequence[float] = (),
    fence: Fence | None = None,
    figures: Mapping | None = None,
) -> None:
    """Give the challenger's slot a share of the people, chosen anew by the rollout's own salt.

    Args:
        later: the shares of the steps to come, for ``grow``.
        figures: of the gate that was passed.

    Raises:
        Conflict: the rollout is neither pending nor a shadow, or the slot is the champion's.
    """

    def route(_: Connection, here: Routing) -> Routing:
        return Routing(_beside(here, colour, target), here.champion, colour, share, salt_of(rollout_id))

    told = _figures(engine, 1, [share, *later], colour) | {"gate": dict(figures or {})}
    sources = ("pending", *_from(fence, "shadow"))
    transition.step(engine, rollout_id, sources, "canary", Reason(who, why, told), route, fence)


def grow(
    engine: Engine,
    rollout_id: int,
    number: int,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """Go on to the step after ``number``: more people get the challenger, nobody loses it.

    Raises:
        Conflict: the rollout is not in that step, or it is the last; or it is paused, unless a person asks.
    """
    here = _in_step(engine, rollout_id, number)
    if not here.later:
        raise Conflict(f"step {number} of rollout {rollout_id} is the last: promote it")
    told = _figures(engine, number + 1, here.later, here.slot)
    told |= {"before": here.share, "gate": dict(figures or {})}
    _widen(engine, rollout_id, here, "canary", Reason(who, why, told), fence)


def start_ab(
    engine: Engine,
    rollout_id: int,
    number: int,
    share: float,
    plan: Mapping,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """Go on from the canary's step ``number``, its last, to an A/B test of planned size.

    Raises:
        Conflict: as ``grow``, or the share would not grow.
    """
    here = _in_step(engine, rollout_id, number)
    if here.plan is not None or not here.share < share < 1:
        raise Conflict(
            f"an A/B test follows a canary and has a share above {here.share:.0%}, not {share:.0%}"
        )
    told = _figures(engine, number + 1, [share], here.slot)
    told |= {"before": here.share, "plan": dict(plan), "gate": dict(figures or {})}
    _widen(engine, rollout_id, here, "ab", Reason(who, why, told), fence)


def note_look(
    engine: Engine, rollout_id: int, who: str, why: str, figures: Mapping, fence: Fence | None = None
) -> None:
    """Write down a look of the A/B test (``figures["look"]``) that has decided nothing.

    Raises:
        Conflict: the rollout is not in its A/B test.
    """
    transition.step(engine, rollout_id, ("ab",), "ab", Reason(who, why, figures), None, fence)


def pause(
    engine: Engine,
    rollout_id: int,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """Stay as it is: whoever has the challenger keeps it, and the share does not grow.

    Raises:
        Conflict: the rollout has ended or is paused.
    """
    sources = tuple(state for state in OPEN if state != "paused")
    transition.step(engine, rollout_id, sources, "paused", Reason(who, why, figures or {}), None, fence)


def resume(engine: Engine, rollout_id: int, who: str, why: str) -> None:
    """Go on where the pause began.

    Raises:
        Conflict: the rollout is not paused.
    """
    target = paused_in(engine, rollout_id) or "canary"
    transition.step(engine, rollout_id, ("paused",), target, Reason(who, why), None)


def promote(
    engine: Engine,
    rollout_id: int,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """Make the challenger the champion; the old one stands by.

    Raises:
        Conflict: the rollout is not in canary or A/B test; or it is paused, unless a person asks.
    """

    def route(_: Connection, here: Routing) -> Routing:
        if here.challenger is None:
            raise Conflict("routing has no challenger to promote: abort this rollout and begin another")
        return Routing(here.slots, here.challenger, salt=here.salt)

    reason = Reason(who, why, figures or {})
    transition.step(engine, rollout_id, _from(fence, "canary", "ab"), "promoted", reason, route, fence)


def refuse(
    engine: Engine,
    rollout_id: int,
    who: str,
    why: str,
    figures: Mapping | None = None,
    fence: Fence | None = None,
) -> None:
    """A gate turns the challenger down, also during a pause; it gets nobody any more.

    Raises:
        Conflict: the rollout has ended.
    """
    reason = Reason(who, why, figures or {})
    transition.step(engine, rollout_id, OPEN, "refused", reason, _champion_alone, fence)


def abort(engine: Engine, rollout_id: int, who: str, why: str, fence: Fence | None = None) -> None:
    """A person stops the rollout; the challenger gets nobody any more.

    Raises:
        Conflict: the rollout has ended.
    """
    transition.step(engine, rollout_id, OPEN, "aborted", Reason(who, why), _champion_alone, fence)


def roll_back(
    engine: Engine, who: str, why: str, figures: Mapping | None = None, fence: Fence | None = None
) -> Rollout:
    """Undo the newest promotion: the slot that stands by is champion again, at once.

    Raises:
        Conflict: no slot stands by with the champion before this one, or a rollout is open.
    """
    with engine.connect() as connection:
        latest = find_promoted(connection)
    if latest is None:
        raise Conflict("no slot stands by with the champion before this one: start one and roll it out")

    def route(connection: Connection, here: Routing) -> Routing:
        if open_one := find_open(connection):
            raise Conflict(f"rollout {open_one.id} is {open_one.state}: abort it first")
        if here.slots[here.champion].policy == latest.challenger:
            for colour, target in here.slots.items():
                if colour != here.champion and target.policy == latest.champion:
                    return Routing({colour: target}, colour)
        raise Conflict(f"no slot stands by with {latest.champion}: start one and roll it out")

    reason = Reason(who, why, figures or {})
    transition.step(engine, latest.id, ("promoted",), "rolled_back", reason, route, fence)
    return latest


def _beside(here: Routing, colour: str, target: Target) -> dict[str, Target]:
    if colour == here.champion:
        raise Conflict(f"slot {colour!r} serves the champion: start the challenger in the other one")
    return {here.champion: here.slots[here.champion], colour: target}


def _in_step(engine: Engine, rollout_id: int, number: int) -> Step:
    here = step_of(engine, rollout_id)
    if here is None or here.number != number:
        raise Conflict(f"rollout {rollout_id} is in step {here.number if here else 0}, not {number}")
    return here


def _widen(
    engine: Engine, rollout_id: int, here: Step, target: str, reason: Reason, fence: Fence | None
) -> None:
    """Go on from the step to the share that ``reason`` tells of."""

    def route(connection: Connection, routing: Routing) -> Routing:
        if find_step(connection, rollout_id) != here:
            raise Conflict(f"rollout {rollout_id} has left step {here.number} meanwhile")
        return replace(routing, canary_share=reason.figures["share"])

    transition.step(engine, rollout_id, _from(fence, "canary"), target, reason, route, fence)


def _figures(engine: Engine, number: int, shares: Sequence[float], colour: str) -> dict:
    with engine.connect() as connection:
        since = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
    return {
        "step": number,
        "share": shares[0],
        "later": list(shares[1:]),
        "slot": colour,
        "since": since,
    }


def _from(fence: Fence | None, *states: str) -> tuple[str, ...]:
    """A pause holds up controllers only."""
    return (*states, "paused") if fence is None else states


def _champion_alone(_: Connection, here: Routing) -> Routing:
    if here.challenger is None and here.shadow is None:
        return here
    return Routing({here.champion: here.slots[here.champion]}, here.champion)

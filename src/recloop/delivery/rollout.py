"""The rollout state machine. A transition and its routing are one transaction, or nothing.

``pending`` (the challenger's slot starts) → ``canary`` (it gets a share of the people, which grows step
by step) → ``promoted`` → ``rolled_back``; from the first two ``paused`` and back, ``refused`` (by a gate)
and ``aborted`` (by a person). Every transition is a compare-and-set on the state, so that of two
controllers one wins and the other gets ``Conflict``. What a controller does carries a ``fence`` as well,
which is asked within the transaction whether it still may (``lease.Lease.check``); a person needs none.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from recloop.delivery.records import (
    Conflict,
    Rollout,
    Step,
    Transition,
    current,
    find,
    find_open,
    find_step,
    history,
    salt_of,
    step_of,
    transitions_of,
)
from recloop.delivery.routing import Routing, Target, newest, write_routing
from recloop.schema import now_us
from recloop.store.tables import impressions, rollouts, transitions

__all__ = [
    "OPEN",
    "Conflict",
    "Fence",
    "Rollout",
    "Step",
    "Transition",
    "abort",
    "begin",
    "current",
    "find",
    "grow",
    "history",
    "install",
    "pause",
    "promote",
    "refuse",
    "resume",
    "retire",
    "roll_back",
    "start_canary",
    "step_of",
    "transitions_of",
]
OPEN = ("pending", "canary", "paused")
Fence = Callable[[Connection], None]


@dataclass(frozen=True)
class Reason:
    """Who takes a step, why, and on which figures."""

    who: str
    why: str
    figures: Mapping


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

    _reroute(engine, route, who, why, fence)


def retire(engine: Engine, colour: str, who: str, why: str, fence: Fence | None = None) -> None:
    """Take a slot that only stands by out of routing, so that it can be stopped.

    Raises:
        Conflict: the slot serves people, or another controller wrote the routing at the same time.
    """

    def route(_: Connection, here: Routing | None) -> Routing | None:
        if here is None or colour not in here.slots:
            return None
        if colour in (here.champion, here.challenger):
            raise Conflict(f"slot {colour!r} serves people: promote or abort first")
        return replace(here, slots={name: t for name, t in here.slots.items() if name != colour})

    _reroute(engine, route, who, why, fence)


def begin(engine: Engine, challenger: str, who: str, why: str, fence: Fence | None = None) -> Rollout:
    """Open a rollout; people see nothing of it yet.

    Raises:
        Conflict: another one is open, or there is no champion to challenge.
    """
    now = now_us()
    row = {"challenger": challenger, "state": "pending", "open": True, "ts": now}
    with _transaction(engine, fence) as connection:
        number = connection.execute(rollouts.insert().returning(rollouts.c.id), row).scalar_one()
        found = newest(connection)
        if found is None:
            raise Conflict("there is no champion to challenge: install the first slot")
        champion = found[1].slots[found[1].champion].policy
        connection.execute(rollouts.update().where(rollouts.c.id == number).values(champion=champion))
        _note(connection, Transition(number, "", "pending", who, why, {}, now))
    return Rollout(number, challenger, champion, "pending", now)


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
) -> None:
    """Give the challenger's slot a share of the people, chosen anew by the rollout's own salt.

    Args:
        later: the shares of the steps to come, for ``grow``.

    Raises:
        Conflict: the rollout is not pending, or the slot is the champion's.
    """

    def route(_: Connection, here: Routing) -> Routing:
        if colour == here.champion:
            raise Conflict(f"slot {colour!r} serves the champion: start the challenger in the other one")
        slots = {here.champion: here.slots[here.champion], colour: target}
        return Routing(slots, here.champion, colour, share, salt_of(rollout_id))

    step = _figures(engine, 1, [share, *later], colour)
    _step(engine, rollout_id, ("pending",), "canary", Reason(who, why, step), route, fence)


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
    here = step_of(engine, rollout_id)
    if here is None or here.number != number:
        raise Conflict(f"rollout {rollout_id} is in step {here.number if here else 0}, not {number}")
    if not here.later:
        raise Conflict(f"step {number} of rollout {rollout_id} is the last: promote it")

    def route(connection: Connection, routing: Routing) -> Routing:
        if find_step(connection, rollout_id) != here:
            raise Conflict(f"rollout {rollout_id} has left step {number} meanwhile")
        return replace(routing, canary_share=here.later[0])

    step = _figures(engine, number + 1, here.later, here.slot)
    step |= {"before": here.share, "gate": dict(figures or {})}
    _step(engine, rollout_id, _from(fence), "canary", Reason(who, why, step), route, fence)


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
    _step(engine, rollout_id, ("canary", "pending"), "paused", Reason(who, why, figures or {}), None, fence)


def resume(engine: Engine, rollout_id: int, who: str, why: str) -> None:
    """Go on where the pause began.

    Raises:
        Conflict: the rollout is not paused.
    """
    last = next((t for t in transitions_of(engine, rollout_id) if t.target == "paused"), None)
    target = last.source if last else "canary"
    _step(engine, rollout_id, ("paused",), target, Reason(who, why, {}), None)


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
        Conflict: the rollout is not in canary; or it is paused, unless a person asks.
    """

    def route(_: Connection, here: Routing) -> Routing:
        if here.challenger is None:
            raise Conflict("routing has no challenger to promote: abort this rollout and begin another")
        return replace(here, champion=here.challenger, challenger=None, canary_share=0.0)

    _step(engine, rollout_id, _from(fence), "promoted", Reason(who, why, figures or {}), route, fence)


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
    _step(engine, rollout_id, OPEN, "refused", Reason(who, why, figures or {}), _champion_alone, fence)


def abort(engine: Engine, rollout_id: int, who: str, why: str, fence: Fence | None = None) -> None:
    """A person stops the rollout; the challenger gets nobody any more.

    Raises:
        Conflict: the rollout has ended.
    """
    _step(engine, rollout_id, OPEN, "aborted", Reason(who, why, {}), _champion_alone, fence)


def roll_back(engine: Engine, who: str, why: str) -> Rollout:
    """Undo the newest rollout, if it was promoted: the slot that stands by is champion again.

    Raises:
        Conflict: the newest rollout was not promoted, or the old champion's slot is gone.
    """
    latest = next(iter(history(engine, 1)), None)
    if latest is None:
        raise Conflict("there is no rollout to undo")

    def route(_: Connection, here: Routing) -> Routing:
        for colour, target in here.slots.items():
            if colour != here.champion and target.policy == latest.champion:
                return Routing({colour: target}, colour)
        raise Conflict(f"no slot stands by with {latest.champion}: start one and roll it out")

    _step(engine, latest.id, ("promoted",), "rolled_back", Reason(who, why, {}), route)
    return latest


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


def _from(fence: Fence | None) -> tuple[str, ...]:
    """A pause holds up controllers only."""
    return ("canary", "paused") if fence is None else ("canary",)


def _champion_alone(_: Connection, here: Routing) -> Routing:
    if here.challenger is None:
        return here
    return Routing({here.champion: here.slots[here.champion]}, here.champion)


def _step(
    engine: Engine,
    rollout_id: int,
    sources: Sequence[str],
    target: str,
    reason: Reason,
    route: Callable[[Connection, Routing], Routing] | None,
    fence: Fence | None = None,
) -> None:
    """Compare-and-set the state and, where ``route`` is given, the routing, in one transaction."""
    is_open = True if target in OPEN else None
    with _transaction(engine, fence) as connection:
        # The update comes first: it takes the write lock, so that what is read after it still holds.
        for source in sources:
            found = rollouts.update().where(rollouts.c.id == rollout_id, rollouts.c.state == source)
            if connection.execute(found.values(state=target, open=is_open)).rowcount == 1:
                break
        else:
            state = connection.execute(select(rollouts.c.state).where(rollouts.c.id == rollout_id)).scalar()
            raise Conflict(
                f"rollout {rollout_id} is {state or 'unknown'}, not {' or '.join(sources)}: it cannot become"
                f" {target}. Somebody else may have acted; look at its history"
            )
        if route is not None:
            here = newest(connection)
            if here is None:
                raise Conflict("there is no routing: install the first slot")
            if (wanted := route(connection, here[1])) != here[1]:
                write_routing(connection, here[0], wanted, reason.who, reason.why)
        _note(
            connection,
            Transition(rollout_id, source, target, reason.who, reason.why, reason.figures, now_us()),
        )


def _reroute(
    engine: Engine,
    route: Callable[[Connection, Routing | None], Routing | None],
    who: str,
    why: str,
    fence: Fence | None,
) -> None:
    with _transaction(engine, fence) as connection:
        version, here = newest(connection) or (0, None)
        wanted = route(connection, here)
        if wanted is not None and wanted != here:
            write_routing(connection, version, wanted, who, why)


@contextmanager
def _transaction(engine: Engine, fence: Fence | None = None) -> Iterator[Connection]:
    """A unique key tells the loser of a race; everything that it did is undone."""
    try:
        with engine.begin() as connection:
            if fence is not None:
                fence(connection)
            yield connection
    except IntegrityError as error:
        raise Conflict(
            "another rollout is open, or another controller was faster: look at its state"
        ) from error


def _note(connection: Connection, step: Transition) -> None:
    connection.execute(transitions.insert(), asdict(step) | {"figures": json.dumps(dict(step.figures))})

"""The rollout state machine. A transition and its routing are one transaction, or nothing.

``pending`` (the challenger's slot starts) → ``canary`` (it gets a share of the people) → ``promoted``
→ ``rolled_back``; from the first two also ``refused`` (by a gate) and ``aborted`` (by a person).
Every step is a compare-and-set on the state, so that of two controllers one wins and the other gets
``Conflict``.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields

from msgspec.structs import replace
from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import IntegrityError

from recloop.delivery.routing import Routing, Target, newest, write_routing
from recloop.schema import now_us
from recloop.store.tables import impressions, rollouts, transitions


class Conflict(RuntimeError):
    """The rollout is not (or no longer) in the state that the step starts from; nothing was changed."""


@dataclass(frozen=True)
class Rollout:
    """One attempt to replace the champion.

    Attributes:
        id: number.
        challenger: the policy that wants to be champion.
        champion: the policy that was, when it began.
        state: see the module.
        ts: µs since 1970 of the beginning.
    """

    id: int
    challenger: str
    champion: str
    state: str
    ts: int


@dataclass(frozen=True)
class Transition:
    """One step of a rollout: who did it, why, and on which figures."""

    rollout_id: int
    source: str
    target: str
    who: str
    why: str
    figures: Mapping
    ts: int


@dataclass(frozen=True)
class Reason:
    """Who takes a step, why, and on which figures."""

    who: str
    why: str
    figures: Mapping


_ROLLOUT = [rollouts.c[field.name] for field in fields(Rollout)]
_TRANSITION = [transitions.c[field.name] for field in fields(Transition)]


def install(engine: Engine, colour: str, target: Target, who: str, why: str) -> None:
    """Make a slot the only one, as for the first champion or after a restart at another address.

    Raises:
        Conflict: a rollout is open, or another controller wrote the routing at the same time.
    """

    def route(connection: Connection, _: Routing | None) -> Routing:
        if open_one := _find_open(connection):
            raise Conflict(f"rollout {open_one.id} is {open_one.state}: promote or abort it first")
        return Routing({colour: target}, colour)

    _reroute(engine, route, who, why)


def retire(engine: Engine, colour: str, who: str, why: str) -> None:
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

    _reroute(engine, route, who, why)


def begin(engine: Engine, challenger: str, who: str, why: str) -> Rollout:
    """Open a rollout; people see nothing of it yet.

    Raises:
        Conflict: another one is open, or there is no champion to challenge.
    """
    now = now_us()
    row = {"challenger": challenger, "state": "pending", "open": True, "ts": now}
    with _transaction(engine) as connection:
        number = connection.execute(rollouts.insert().returning(rollouts.c.id), row).scalar_one()
        found = newest(connection)
        if found is None:
            raise Conflict("there is no champion to challenge: install the first slot")
        champion = found[1].slots[found[1].champion].policy
        connection.execute(rollouts.update().where(rollouts.c.id == number).values(champion=champion))
        _note(connection, Transition(number, "", "pending", who, why, {}, now))
    return Rollout(number, challenger, champion, "pending", now)


def start_canary(
    engine: Engine, rollout_id: int, colour: str, target: Target, share: float, who: str, why: str
) -> None:
    """Give the challenger's slot a share of the people, chosen anew by the rollout's own salt.

    Raises:
        Conflict: the rollout is not pending, or the slot is the champion's.
    """
    with engine.connect() as connection:
        since = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0

    def route(here: Routing) -> Routing:
        if colour == here.champion:
            raise Conflict(f"slot {colour!r} serves the champion: start the challenger in the other one")
        slots = {here.champion: here.slots[here.champion], colour: target}
        return Routing(slots, here.champion, colour, share, f"rollout-{rollout_id}")

    figures = {"share": share, "slot": colour, "since": since}
    _step(engine, rollout_id, "pending", "canary", Reason(who, why, figures), route)


def promote(engine: Engine, rollout_id: int, who: str, why: str, figures: Mapping | None = None) -> None:
    """Make the challenger the champion; the old one stands by.

    Raises:
        Conflict: the rollout is not in canary.
    """

    def route(here: Routing) -> Routing:
        if here.challenger is None:
            raise Conflict("routing has no challenger to promote: abort this rollout and begin another")
        return replace(here, champion=here.challenger, challenger=None, canary_share=0.0)

    _step(engine, rollout_id, "canary", "promoted", Reason(who, why, figures or {}), route)


def refuse(engine: Engine, rollout_id: int, who: str, why: str, figures: Mapping | None = None) -> None:
    """A gate turns the challenger down; it gets nobody any more.

    Raises:
        Conflict: the rollout has ended.
    """
    _leave(engine, rollout_id, "refused", Reason(who, why, figures or {}))


def abort(engine: Engine, rollout_id: int, who: str, why: str) -> None:
    """A person stops the rollout; the challenger gets nobody any more.

    Raises:
        Conflict: the rollout has ended.
    """
    _leave(engine, rollout_id, "aborted", Reason(who, why, {}))


def roll_back(engine: Engine, who: str, why: str) -> Rollout:
    """Undo the newest rollout, if it was promoted: the slot that stands by is champion again.

    Raises:
        Conflict: the newest rollout was not promoted, or the old champion's slot is gone.
    """
    latest = next(iter(history(engine, 1)), None)
    if latest is None:
        raise Conflict("there is no rollout to undo")

    def route(here: Routing) -> Routing:
        for colour, target in here.slots.items():
            if colour != here.champion and target.policy == latest.champion:
                return Routing({colour: target}, colour)
        raise Conflict(f"no slot stands by with {latest.champion}: start one and roll it out")

    _step(engine, latest.id, "promoted", "rolled_back", Reason(who, why, {}), route)
    return latest


def current(engine: Engine) -> Rollout | None:
    """The open rollout."""
    with engine.connect() as connection:
        return _find_open(connection)


def history(engine: Engine, limit: int = 20) -> list[Rollout]:
    """Rollouts, newest first."""
    query = select(*_ROLLOUT).order_by(rollouts.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [Rollout(*row) for row in connection.execute(query)]


def transitions_of(engine: Engine, rollout_id: int | None = None, limit: int = 50) -> list[Transition]:
    """Transitions of one rollout, or of all, newest first."""
    query = select(*_TRANSITION).order_by(transitions.c.id.desc()).limit(limit)
    if rollout_id is not None:
        query = query.where(transitions.c.rollout_id == rollout_id)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    return [Transition(**{**row, "figures": json.loads(row["figures"])}) for row in rows]


def _leave(engine: Engine, rollout_id: int, target: str, reason: Reason) -> None:
    def route(here: Routing) -> Routing:
        return Routing({here.champion: here.slots[here.champion]}, here.champion)

    try:
        _step(engine, rollout_id, "canary", target, reason, route)
    except Conflict:
        _step(engine, rollout_id, "pending", target, reason, None)


def _step(
    engine: Engine,
    rollout_id: int,
    source: str,
    target: str,
    reason: Reason,
    route: Callable[[Routing], Routing] | None,
) -> None:
    """Compare-and-set the state and, where ``route`` is given, the routing, in one transaction."""
    found = rollouts.update().where(rollouts.c.id == rollout_id, rollouts.c.state == source)
    is_open = True if target in ("pending", "canary") else None
    with _transaction(engine) as connection:
        # The update comes first: it takes the write lock, so that what is read after it still holds.
        if connection.execute(found.values(state=target, open=is_open)).rowcount != 1:
            state = connection.execute(select(rollouts.c.state).where(rollouts.c.id == rollout_id)).scalar()
            raise Conflict(
                f"rollout {rollout_id} is {state or 'unknown'}, not {source}: it cannot become {target}."
                " Somebody else may have acted; look at its history"
            )
        _note(
            connection,
            Transition(rollout_id, source, target, reason.who, reason.why, reason.figures, now_us()),
        )
        if route is not None:
            here = newest(connection)
            if here is None:
                raise Conflict("there is no routing: install the first slot")
            write_routing(connection, here[0], route(here[1]), reason.who, reason.why)


def _reroute(
    engine: Engine,
    route: Callable[[Connection, Routing | None], Routing | None],
    who: str,
    why: str,
) -> None:
    with _transaction(engine) as connection:
        version, here = newest(connection) or (0, None)
        wanted = route(connection, here)
        if wanted is not None and wanted != here:
            write_routing(connection, version, wanted, who, why)


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    """A unique key tells the loser of a race; everything that it did is undone."""
    try:
        with engine.begin() as connection:
            yield connection
    except IntegrityError as error:
        raise Conflict(
            "another rollout is open, or another controller was faster: look at its state"
        ) from error


def _find_open(connection: Connection) -> Rollout | None:
    row = connection.execute(select(*_ROLLOUT).where(rollouts.c.open.is_(True))).one_or_none()
    return None if row is None else Rollout(*row)


def _note(connection: Connection, step: Transition) -> None:
    connection.execute(transitions.insert(), asdict(step) | {"figures": json.dumps(dict(step.figures))})

"""One step of the state machine: state, routing and the reason for it change together, or nothing does."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import IntegrityError

from recloop.delivery.records import Conflict
from recloop.delivery.routing import Routing, newest, write_routing
from recloop.delivery.wording import Words
from recloop.schema import now_us
from recloop.store.tables import rollouts, transitions

OPEN = ("pending", "shadow", "canary", "ab", "paused")
Fence = Callable[[Connection], None]
Route = Callable[[Connection, Routing], Routing]


@dataclass(frozen=True)
class Reason:
    """Who takes a step, why, and on which figures; ``Words`` are kept with their code."""

    who: str
    why: str
    figures: Mapping = field(default_factory=dict)


def step(
    engine: Engine,
    rollout_id: int,
    sources: Sequence[str],
    target: str,
    reason: Reason,
    route: Route | None,
    fence: Fence | None = None,
) -> None:
    """Compare-and-set the state and, where ``route`` is given, the routing, in one transaction.

    Raises:
        Conflict: the rollout is in none of ``sources``, or another controller was faster.
    """
    with transaction(engine, fence) as connection:
        # The update comes first: it takes the write lock, so that what is read after it still holds.
        source = swap(connection, rollout_id, sources, target)
        if source is None:
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
                write_routing(connection, here[0], wanted, reason.who, str(reason.why))
        note(connection, rollout_id, source, target, reason)


def swap(connection: Connection, rollout_id: int, sources: Sequence[str], target: str) -> str | None:
    """Set the state where it is one of ``sources``; the one that it was, or None."""
    is_open = True if target in OPEN else None
    for source in sources:
        found = rollouts.update().where(rollouts.c.id == rollout_id, rollouts.c.state == source)
        if connection.execute(found.values(state=target, open=is_open)).rowcount == 1:
            return source
    return None


def reroute(
    engine: Engine,
    route: Callable[[Connection, Routing | None], Routing | None],
    reason: Reason,
    fence: Fence | None,
) -> None:
    """Write the routing that ``route`` makes of the newest, without a state."""
    with transaction(engine, fence) as connection:
        version, here = newest(connection) or (0, None)
        wanted = route(connection, here)
        if wanted is not None and wanted != here:
            write_routing(connection, version, wanted, reason.who, str(reason.why))


@contextmanager
def transaction(engine: Engine, fence: Fence | None = None) -> Iterator[Connection]:
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


def note(connection: Connection, rollout_id: int, source: str, target: str, reason: Reason) -> None:
    """Append the transition, inside the caller's transaction."""
    figures = dict(reason.figures) | ({"said": reason.why.said} if isinstance(reason.why, Words) else {})
    row = {"rollout_id": rollout_id, "source": source, "target": target, "who": reason.who}
    row |= {"why": str(reason.why), "figures": json.dumps(figures), "ts": now_us()}
    connection.execute(transitions.insert(), row)

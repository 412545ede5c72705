"""What is written about rollouts: where each stands, its transitions, steps, and looks of its A/B test."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from sqlalchemy import Connection, Engine, select

from recloop.delivery.wording import Said
from recloop.schema import now_us
from recloop.store.engine import facts_named, note_fact
from recloop.store.tables import rollouts, transitions


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

    @property
    def said(self) -> Said | None:
        """``why`` as ``wording`` has it; None for a person's reason."""
        return self.figures.get("said")


@dataclass(frozen=True)
class Step:
    """A share of the people that the challenger gets, in a canary or in the A/B test.

    Attributes:
        number: 1 for the first.
        share: of the people.
        later: the shares that follow, growing.
        slot: the challenger's.
        since: ``impressions.seq`` before it began.
        ts: µs since 1970 of its beginning.
        before: the share of the step before; 0 for the first.
        plan: of the A/B test; None in a canary.
    """

    number: int
    share: float
    later: tuple[float, ...]
    slot: str
    since: int
    ts: int
    before: float = 0.0
    plan: Mapping | None = None


def salt_of(rollout_id: int) -> str:
    """By which a rollout's canary is drawn among the people."""
    return f"rollout-{rollout_id}"


_ROLLOUT = [rollouts.c[field.name] for field in fields(Rollout)]
_TRANSITION = [transitions.c[field.name] for field in fields(Transition)]


def current(engine: Engine) -> Rollout | None:
    """The open rollout."""
    with engine.connect() as connection:
        return find_open(connection)


def find(engine: Engine, rollout_id: int) -> Rollout:
    """The rollout of that number.

    Raises:
        Conflict: there is none.
    """
    with engine.connect() as connection:
        row = connection.execute(select(*_ROLLOUT).where(rollouts.c.id == rollout_id)).one_or_none()
    if row is None:
        raise Conflict(f"there is no rollout {rollout_id}")
    return Rollout(*row)


def step_of(engine: Engine, rollout_id: int) -> Step | None:
    """The step of canary or A/B test, also during a pause and after the end; None before the first."""
    with engine.connect() as connection:
        return find_step(connection, rollout_id)


def paused_in(engine: Engine, rollout_id: int) -> str:
    """The state in which the newest pause began; empty where there was none."""
    with engine.connect() as connection:
        query = (
            select(transitions.c.source)
            .where(transitions.c.rollout_id == rollout_id, transitions.c.target == "paused")
            .order_by(transitions.c.id.desc())
        )
        return connection.execute(query.limit(1)).scalar() or ""


def began(engine: Engine, rollout_id: int, state: str) -> Transition | None:
    """The transition with which the rollout came into the state last, a pause's end not counted."""
    with engine.connect() as connection:
        told = _read(connection, rollout_id, None)
    return next((t for t in told if t.target == state and t.source not in (state, "paused")), None)


def looks_of(engine: Engine, rollout_id: int) -> list[Mapping]:
    """What the A/B test said at each of its looks so far, first to last."""
    with engine.connect() as connection:
        told = _read(connection, rollout_id, None)
    return [t.figures["look"] for t in reversed(told) if t.figures.get("look")]


def note_gate(engine: Engine, rollout_id: int, gate: str, said: Mapping) -> None:
    """Write down what a gate says now, for people to read: nothing hangs on it."""
    note_fact(engine, f"{_gates(rollout_id)}{gate}", json.dumps({**said, "ts": now_us()}))


def gates_of(engine: Engine, rollout_id: int) -> dict[str, dict]:
    """What ``note_gate`` wrote down last, by gate."""
    found = facts_named(engine, _gates(rollout_id))
    return {gate: json.loads(said) for gate, said in found.items()}


def _gates(rollout_id: int) -> str:
    return f"rollout {rollout_id} gate "


def history(engine: Engine, limit: int = 20) -> list[Rollout]:
    """Rollouts, newest first."""
    query = select(*_ROLLOUT).order_by(rollouts.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        return [Rollout(*row) for row in connection.execute(query)]


def transitions_of(engine: Engine, rollout_id: int | None = None, limit: int = 50) -> list[Transition]:
    """Transitions of one rollout, or of all, newest first."""
    with engine.connect() as connection:
        return _read(connection, rollout_id, limit)


def _read(connection: Connection, rollout_id: int | None, limit: int | None) -> list[Transition]:
    query = select(*_TRANSITION).order_by(transitions.c.id.desc()).limit(limit)
    if rollout_id is not None:
        query = query.where(transitions.c.rollout_id == rollout_id)
    rows = connection.execute(query).mappings().all()
    return [Transition(**{**row, "figures": json.loads(row["figures"])}) for row in rows]


def find_step(connection: Connection, rollout_id: int) -> Step | None:
    """``step_of`` inside the caller's transaction."""
    for one in _read(connection, rollout_id, None):
        if one.target in ("canary", "ab") and "share" in one.figures:  # else a pause has ended, or a look
            told: dict = {"step": 1, "later": (), "before": 0.0, "plan": None} | dict(one.figures)
            number, share, slot, since = (told[name] for name in ("step", "share", "slot", "since"))
            return Step(
                number, share, tuple(told["later"]), slot, since, one.ts, told["before"], told["plan"]
            )
    return None


def find_promoted(connection: Connection) -> Rollout | None:
    """The newest rollout whose challenger became champion and whose old champion may still stand by."""
    query = select(*_ROLLOUT).where(rollouts.c.state == "promoted").order_by(rollouts.c.id.desc()).limit(1)
    row = connection.execute(query).one_or_none()
    return None if row is None else Rollout(*row)


def find_open(connection: Connection) -> Rollout | None:
    """``current`` inside the caller's transaction."""
    row = connection.execute(select(*_ROLLOUT).where(rollouts.c.open.is_(True))).one_or_none()
    return None if row is None else Rollout(*row)

"""What a person asks of a rollout, at a terminal or in the dashboard, whatever the gates say."""

from collections.abc import Sequence
from typing import Literal, get_args

from sqlalchemy import Engine

from recloop.delivery import rollout
from recloop.delivery.routing import read_routing

Action = Literal["step", "promote", "pause", "resume", "abort", "rollback"]
ACTIONS: tuple[Action, ...] = get_args(Action)


def seen(engine: Engine, found: rollout.Rollout) -> str:
    """Where a rollout stands, in a word: whoever acts on what they saw says which it was."""
    step = rollout.step_of(engine, found.id)
    return f"{found.state} {step.number if step else 0}"


def possible(engine: Engine) -> tuple[rollout.Rollout | None, tuple[Action, ...]]:
    """The open rollout, else the last one if it can be undone, and what may be asked of it."""
    found = rollout.current(engine)
    if found is None:
        last = next(iter(rollout.history(engine, 1)), None)
        here = read_routing(engine)
        undo = last and here and last.state == "promoted" and len(here[1].slots) > 1
        return (last, ("rollback",)) if undo else (None, ())
    paused = found.state == "paused"
    inner = rollout.paused_in(engine, found.id) if paused else found.state
    step = rollout.step_of(engine, found.id)
    may: list[Action] = []
    if inner == "shadow" or (inner == "canary" and step is not None and step.later):
        may.append("step")
    if inner in ("canary", "ab"):
        may.append("promote")
    return found, (*may, "resume" if paused else "pause", "abort")


def next_step(engine: Engine, found: rollout.Rollout, shares: Sequence[float], who: str, why: str) -> float:
    """Go on to the next share, from a shadow to the first of ``shares``; the share.

    Raises:
        Conflict: there is no next one.
    """
    here = rollout.step_of(engine, found.id)
    if here is not None:
        rollout.grow(engine, found.id, here.number, who, why)
        return here.later[0]
    routing = read_routing(engine)
    if routing is None or routing[1].shadow is None:
        raise rollout.Conflict(f"rollout {found.id} is {found.state}: its slot has not started")
    colour = routing[1].shadow
    share, *later = shares
    rollout.start_canary(engine, found.id, colour, routing[1].slots[colour], share, who, why, later)
    return share


def act(
    engine: Engine, action: Action, found: rollout.Rollout, shares: Sequence[float], who: str, why: str
) -> None:
    """Do one of ``possible``.

    Raises:
        Conflict: the rollout is not, or no longer, where that can be done.
    """
    if action == "step":
        next_step(engine, found, shares, who, why)
    elif action == "rollback":
        rollout.roll_back(engine, who, why)
    else:
        steps = {
            "promote": rollout.promote,
            "pause": rollout.pause,
            "resume": rollout.resume,
            "abort": rollout.abort,
        }
        steps[action](engine, found.id, who, why)

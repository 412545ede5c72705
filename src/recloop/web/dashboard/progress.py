"""How a rollout stands: its way from step to step, its gates, and what a person may ask of it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine

from recloop.delivery import by_hand, rollout
from recloop.delivery.gates import GATES
from recloop.delivery.lease import holder
from recloop.delivery.records import gates_of
from recloop.delivery.rollout import Rollout, Transition
from recloop.delivery.trial import progress
from recloop.delivery.wording import Said
from recloop.settings.params import DeliveryParams

TOLD = 12  # transitions


@dataclass(frozen=True)
class Stage:
    """One step of the way; ``share`` of the people, None where nobody gets the challenger yet."""

    name: str
    share: float | None
    state: str  # done, now, next, ended (where the rollout was stopped) or left (not reached)


@dataclass(frozen=True)
class Gate:
    """What a gate said last, in English; ``said``: ``why`` and ``remedy`` as ``wording`` has them."""

    name: str
    outcome: str
    why: str
    remedy: str
    ts: int
    figures: dict[str, Any]
    said: dict[str, Said]


@dataclass(frozen=True)
class Progress:
    """The open rollout, else the newest one.

    Attributes:
        seen: of the open rollout, or of one that can be undone, where it stands, for who acts on it.
        controller: who drives it; empty for nobody.
        people: of its A/B test, so far and planned; None in no test.
    """

    rollout: Rollout | None
    stages: tuple[Stage, ...]
    gates: tuple[Gate, ...]
    transitions: tuple[Transition, ...]
    actions: tuple[by_hand.Action, ...]
    seen: str
    controller: str
    people: tuple[int, int] | None


def standing(engine: Engine, params: DeliveryParams) -> Progress:
    """What the store says now."""
    acted, actions = by_hand.possible(engine)
    shown = acted or next(iter(rollout.history(engine, 1)), None)
    if shown is None:
        return Progress(None, (), (), (), (), "", "", None)
    told = rollout.transitions_of(engine, shown.id, 200)
    step = rollout.step_of(engine, shown.id)
    people = None
    if step is not None and step.plan is not None:
        people = progress(engine, shown.id), int(step.plan["people"])
    return Progress(
        rollout=shown,
        stages=stages(shown, told, step, params),
        gates=_gates(engine, shown.id),
        transitions=tuple(told[:TOLD]),
        actions=actions,
        seen=by_hand.seen(engine, shown) if acted else "",
        controller=holder(engine),
        people=people,
    )


def stages(
    shown: Rollout, told: list[Transition], step: rollout.Step | None, params: DeliveryParams
) -> tuple[Stage, ...]:
    """The way as it was gone, and as it is planned from where it stands."""
    names: list[tuple[str, float | None]] = [("pending", None)]
    if any(one.target == "shadow" for one in told) or (params.shadow_requests and step is None):
        names.append(("shadow", None))
    gone = [
        (one.target, one.figures["share"])
        for one in reversed(told)
        if one.target in ("canary", "ab") and "share" in one.figures
    ]
    later = params.shares if step is None else step.later
    names += [*gone, *(("canary", share) for share in later)]
    if params.ab_share and not any(name == "ab" for name, _ in names):
        names.append(("ab", params.ab_share))
    names.append(("promoted", 1.0))
    paused = next((one.source for one in told if one.target == "paused"), "")
    inner = paused if shown.state == "paused" else shown.state
    ended = shown.state in ("refused", "aborted")
    if ended:
        inner = next((one.source for one in told if one.target == shown.state), "pending")
        inner = paused if inner == "paused" else inner
    if gone and inner in ("canary", "ab"):
        here = names.index(gone[0]) + len(gone) - 1
    elif shown.state in ("promoted", "retired", "rolled_back"):
        here = len(names) - 1
    else:
        here = next((place for place, (name, _) in enumerate(names) if name == inner), 0)
    done = here + (shown.state in ("promoted", "retired"))
    stopped = ended or shown.state == "rolled_back"
    after, now = ("left", "ended") if stopped else ("next", "now")
    return tuple(
        Stage(name, share, "done" if place < done else after if place > here else now)
        for place, (name, share) in enumerate(names)
    )


def _gates(engine: Engine, number: int) -> tuple[Gate, ...]:
    found = gates_of(engine, number)
    order = [*(name for name in GATES if name in found), *sorted(set(found) - set(GATES))]
    return tuple(_gate(name, found[name]) for name in order)


def _gate(name: str, said: dict[str, Any]) -> Gate:
    numbers = {key: value for key, value in said["figures"].items() if isinstance(value, int | float)}
    kept = said.get("said", {})  # versions before 2026-11 kept English, and the A/B test's sentence in Korean
    if not kept and (ko := said["figures"].get("ko")):
        kept = {"why": {"code": "experiment", "en": said["why"], "ko": ko}}
    return Gate(name, said["outcome"], said["why"], said["remedy"], said["ts"], numbers, kept)

"""A controller drives one open rollout to its end, as its gates and people say.

What it knows is in the store alone, so that another one can go on at any point. It looks at the state every
second, also while a slot starts or a gate works: a person's word is honoured at the next look, and a
transition that the word overtakes is refused by the store.
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from contextvars import copy_context
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Engine

from recloop.delivery import rollout
from recloop.delivery.gates import GATES, Verdict
from recloop.delivery.lease import Fenced, Lease
from recloop.delivery.records import note_gate
from recloop.delivery.rollout import Conflict, Rollout, Step
from recloop.delivery.routing import Target, read_routing
from recloop.delivery.wording import Words, program_said, said_of, words
from recloop.settings.params import DeliveryParams

LOOK = 1.0  # seconds between looks at the state
SAY = 5.0  # seconds between words on what is waited for
TELL = 2.0  # seconds between notes of what a gate says, while it says the same
T = TypeVar("T")


@dataclass(frozen=True)
class Hands:
    """What a controller does outside the store. Each may be done again by who goes on.

    Attributes:
        judge: the offline gate.
        start: starts the challenger's slot.
        smoke: warms that slot up, and the gate on its answers.
        ask: the gate of the state that the rollout is in, on what was seen by now.
        plan: what the A/B test is written down with; raises ValueError where it cannot be planned.
        ready: whether the switch can be made: the slot answers, and the registry does.
    """

    judge: Callable[[], Verdict]
    start: Callable[[], Target]
    smoke: Callable[[Target], Verdict]
    ask: Callable[[Rollout], Verdict]
    plan: Callable[[], Mapping[str, Any]]
    ready: Callable[[Target], Verdict]


@dataclass
class Controller:
    """One controller with its lease.

    Attributes:
        colour: the slot of the challenger.
        who: the name in the transitions.
        say: takes what is worth telling.
        verdicts: the newest of each gate.
    """

    engine: Engine
    lease: Lease
    hands: Hands
    params: DeliveryParams
    colour: str
    who: str
    say: Callable[[str], None]
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    _number: int = field(default=0, init=False)
    _told: float = field(default=0.0, init=False)

    def drive(self, number: int) -> None:
        """Act until the rollout has ended, or is paused and nobody resumes it within ``step_seconds``.

        Raises:
            Fenced: another controller has taken over.
            Conflict: a transition cannot be made.
        """
        self._number = number
        seen: tuple[str, Step | None] | None = None
        begun = said = 0.0
        while True:
            here = rollout.find(self.engine, number)
            now = here.state, rollout.step_of(self.engine, number)
            if here.state not in rollout.OPEN:
                return
            if now != seen:
                seen, begun = now, time.monotonic()
                self.say(f"rollout {number} is {told(*now)}")
            try:
                if self._act(here, now[1], time.monotonic() - begun):
                    return
            except Fenced:
                if not self.lease.renew():
                    raise
            except Conflict:
                if (rollout.find(self.engine, number).state, rollout.step_of(self.engine, number)) == now:
                    raise
                continue  # somebody has acted meanwhile
            if time.monotonic() - said > SAY and here.state in self.verdicts:
                self.say(f"{here.state}: {self.verdicts[here.state].why}")
                said = time.monotonic()
            time.sleep(LOOK)

    def _act(self, here: Rollout, step: Step | None, waited: float) -> bool:
        """One look; whether there is no more to do for now."""
        paused = here.state == "paused"
        late = waited > (self.params.ab_seconds if here.state == "ab" else self.params.step_seconds)
        if here.state == "pending":
            return self._launch(here)
        if paused and step is None:  # nobody is served by it
            return late
        verdict = self._note(self._meanwhile(here, lambda: self.hands.ask(here)))
        if verdict.figures.get("look") and not paused:
            rollout.note_look(self.engine, here.id, self.who, verdict.told, verdict.figures, self.lease.check)
        if verdict.outcome == "fail":  # also during a pause: people must not be harmed by waiting
            self._refuse(here, verdict)
        elif paused:
            return late
        elif verdict.outcome == "pass":
            verdict = self._go_on(here, step, verdict)
        if verdict.outcome == "no-data" and late:
            return self._pause(here, verdict, words("late", seconds=waited, told=_by(verdict)))
        return False

    def _launch(self, here: Rollout) -> bool:
        offline = self.verdicts.get("offline") or self._note(self._meanwhile(here, self.hands.judge))
        if offline.outcome == "no-data":
            return self._pause(here, offline, words("offline_undecided", told=_by(offline)))
        if offline.outcome == "fail":
            self._refuse(here, offline)
            return False
        fence = self.lease.check
        rollout.retire(self.engine, self.colour, self.who, words("takes_slot"), fence=fence)
        target = self._meanwhile(here, self.hands.start)
        smoke = self._note(self._meanwhile(here, lambda: self.hands.smoke(target)))
        if smoke.outcome != "pass":
            self._refuse(here, smoke)
        elif self.params.shadow_requests:
            rollout.start_shadow(
                self.engine, here.id, self.colour, target, self.params.shadow_share, self.who, smoke.why,
                smoke.figures, fence,
            )  # fmt: skip
        else:
            self._start_canary(here, target, smoke)
        return False

    def _go_on(self, here: Rollout, step: Step | None, verdict: Verdict) -> Verdict:
        """Take the next step after a gate that was passed; what else hinders it."""
        fence = self.lease.check
        if here.state == "shadow":
            self._start_canary(here, self._target(), verdict)
        elif step is not None and step.later:
            rollout.grow(
                self.engine, here.id, step.number, self.who, verdict.told, verdict.figures, fence=fence
            )
        elif step is not None and step.plan is None and self.params.ab_share > step.share:
            return self._start_ab(here, step, verdict)
        else:
            return self._switch(here, verdict)
        return verdict

    def _start_canary(self, here: Rollout, target: Target, verdict: Verdict) -> None:
        share, *later = self.params.shares
        rollout.start_canary(
            self.engine, here.id, self.colour, target, share, self.who, _by(verdict),
            later, self.lease.check, verdict.figures,
        )  # fmt: skip

    def _start_ab(self, here: Rollout, step: Step, verdict: Verdict) -> Verdict:
        try:
            plan = self._meanwhile(here, self.hands.plan)
        except ValueError as error:
            return self._note(Verdict("ab", "no-data", words("no_plan", fault=program_said(str(error)))))
        rollout.start_ab(
            self.engine, here.id, step.number, self.params.ab_share, plan, self.who, verdict.told,
            verdict.figures, self.lease.check,
        )  # fmt: skip
        return verdict

    def _switch(self, here: Rollout, verdict: Verdict) -> Verdict:
        """Make the challenger champion where it can be, and undo it where it then does not answer."""
        target = self._target()
        ready = self._note(self._meanwhile(here, lambda: self.hands.ready(target)))
        if ready.outcome == "fail":
            self._refuse(here, ready)
        if ready.outcome != "pass":
            return ready
        fence = self.lease.check
        rollout.promote(self.engine, here.id, self.who, verdict.told, verdict.figures, fence=fence)
        after = self.hands.ready(target)
        if after.outcome == "fail":
            rollout.roll_back(self.engine, self.who, _by(after), after.figures, fence)
            self._note(after)
        return verdict

    def _target(self) -> Target:
        found = read_routing(self.engine)
        if found is None or self.colour not in found[1].slots:
            raise Conflict(f"routing has no slot {self.colour!r} any more: abort this rollout")
        return found[1].slots[self.colour]

    def _meanwhile(self, here: Rollout, work: Callable[[], T]) -> T:
        """Do it beside the looks at the state; it is left alone where a person ends the rollout meanwhile.

        Raises:
            Conflict: the rollout has ended.
        """
        done: Future[T] = Future()
        context = copy_context()

        def run() -> None:
            try:
                done.set_result(context.run(work))
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=run, name="rollout-hand", daemon=True).start()
        while not wait([done], LOOK).done:
            if rollout.find(self.engine, here.id).state not in rollout.OPEN:
                raise Conflict(f"rollout {here.id} has ended meanwhile")
        return done.result()

    def _note(self, verdict: Verdict) -> Verdict:
        before, self.verdicts[verdict.name] = self.verdicts.get(verdict.name), verdict
        changed = before is None or before.outcome != verdict.outcome
        if changed or time.monotonic() - self._told > TELL:
            self._told = time.monotonic()
            said = {"why": said_of(verdict.why), "remedy": said_of(verdict.remedy)}
            note_gate(self.engine, self._number, verdict.name, asdict(verdict) | {"said": said})
        return verdict

    def _refuse(self, here: Rollout, verdict: Verdict) -> None:
        rollout.refuse(self.engine, here.id, self.who, _by(verdict), verdict.figures, fence=self.lease.check)

    def _pause(self, here: Rollout, verdict: Verdict, why: Words) -> bool:
        rollout.pause(self.engine, here.id, self.who, why, verdict.figures, fence=self.lease.check)
        self.say(f"rollout {here.id} is paused, {why}")
        return True


def _by(verdict: Verdict) -> Words:
    """What the gate said, with its name."""
    gate = words(verdict.name) if verdict.name in GATES else verdict.name
    return words("by", gate=gate, told=verdict.told)


def told(state: str, step: Step | None) -> str:
    """Where a rollout stands, in words."""
    if step is None or state == "shadow":
        return state
    if step.plan is not None:
        return f"{state} in its A/B test of {step.plan['people']:,} people, share {step.share:.0%}"
    return f"{state} at step {step.number} of {step.number + len(step.later)}, share {step.share:.0%}"

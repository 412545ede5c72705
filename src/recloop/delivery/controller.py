"""A controller drives one open rollout to its end, as its gates and people say.

What it knows is in the store alone, so that another one can go on at any point. It looks at the state every
second: a person's word is honoured at the next look, and a transition that the word overtakes is refused
by the store.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import Engine

from recloop.delivery import rollout
from recloop.delivery.gates import Verdict
from recloop.delivery.lease import Fenced, Lease
from recloop.delivery.rollout import Conflict, Rollout, Step
from recloop.delivery.routing import Target
from recloop.settings.params import DeliveryParams

LOOK = 1.0  # seconds between looks at the state
SAY = 5.0  # seconds between words on what is waited for


@dataclass(frozen=True)
class Hands:
    """What a controller does outside the store. Each may be done again by who goes on.

    Attributes:
        judge: the offline gate.
        start: starts the challenger's slot.
        smoke: the gate on that slot.
        ask: the canary's gate on what was seen by now.
    """

    judge: Callable[[], Verdict]
    start: Callable[[], Target]
    smoke: Callable[[Target], Verdict]
    ask: Callable[[Rollout], Verdict]


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

    def drive(self, number: int) -> None:
        """Act until the rollout has ended, or is paused and nobody resumes it within ``step_seconds``.

        Raises:
            Fenced: another controller has taken over.
            Conflict: a transition cannot be made.
        """
        seen: tuple[str, Step | None] | None = None
        begun = said = 0.0
        while True:
            here = rollout.find(self.engine, number)
            now = here.state, rollout.step_of(self.engine, number)
            if here.state not in rollout.OPEN:
                return
            if now != seen:
                seen, begun = now, time.monotonic()
                self.say(f"rollout {number} is {_told(*now)}")
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
            if time.monotonic() - said > SAY and "canary" in self.verdicts:
                self.say(f"canary: {self.verdicts['canary'].why}")
                said = time.monotonic()
            time.sleep(LOOK)

    def _act(self, here: Rollout, step: Step | None, waited: float) -> bool:
        """One look; whether there is no more to do for now."""
        late = waited > self.params.step_seconds
        if here.state == "pending":
            return self._launch(here)
        if step is None:
            return late
        verdict = self._note(self.hands.ask(here))
        if verdict.outcome == "fail":  # also during a pause: people must not be harmed by waiting
            self._refuse(here, verdict)
        elif here.state == "paused":
            return late
        elif verdict.outcome == "pass" and step.later:
            fence = self.lease.check
            rollout.grow(
                self.engine, here.id, step.number, self.who, verdict.told, verdict.figures, fence=fence
            )
        elif verdict.outcome == "pass":
            rollout.promote(
                self.engine, here.id, self.who, verdict.told, verdict.figures, fence=self.lease.check
            )
        elif late:
            return self._pause(here, verdict, f"after {waited:.0f} s")
        return False

    def _launch(self, here: Rollout) -> bool:
        offline = self.verdicts.get("offline") or self._note(self.hands.judge())
        if offline.outcome == "no-data":
            return self._pause(here, offline, "offline")
        if offline.outcome == "fail":
            self._refuse(here, offline)
            return False
        fence = self.lease.check
        rollout.retire(self.engine, self.colour, self.who, "the challenger takes its slot", fence=fence)
        target = self.hands.start()
        smoke = self._note(self.hands.smoke(target))
        if smoke.outcome != "pass":
            self._refuse(here, smoke)
            return False
        share, *later = self.params.shares
        rollout.start_canary(
            self.engine,
            here.id,
            self.colour,
            target,
            share,
            self.who,
            "offline and smoke passed",
            later,
            fence,
        )
        return False

    def _note(self, verdict: Verdict) -> Verdict:
        self.verdicts[verdict.name] = verdict
        return verdict

    def _refuse(self, here: Rollout, verdict: Verdict) -> None:
        why = f"{verdict.name}: {verdict.told}"
        rollout.refuse(self.engine, here.id, self.who, why, verdict.figures, fence=self.lease.check)

    def _pause(self, here: Rollout, verdict: Verdict, when: str) -> bool:
        why = f"no decision {when}: {verdict.told}"
        rollout.pause(self.engine, here.id, self.who, why, verdict.figures, fence=self.lease.check)
        self.say(f"rollout {here.id} is paused, {why}")
        return True


def _told(state: str, step: Step | None) -> str:
    if step is None:
        return state
    return f"{state} at step {step.number} of {step.number + len(step.later)}, share {step.share:.0%}"

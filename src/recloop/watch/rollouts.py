"""How rollouts stand, for the rules: which a gate has ended or held up, and since when."""

from collections.abc import Sequence

from sqlalchemy import Engine

from recloop.delivery import rollout
from recloop.delivery.gates import GATES
from recloop.delivery.rollout import Transition
from recloop.delivery.wording import VERBATIM
from recloop.schema import now_us
from recloop.watch.expressions import Values
from recloop.watch.notify import notify
from recloop.watch.rules import Alert, evaluate, rollouts
from recloop.watch.seen import FromStore

NEWEST = 5  # rollouts that there are series of
# sentences around a reason, and the figure that it is in
AROUND = {
    "offline_undecided": "told",
    "late": "told",
    "by": "told",
    "told": "why",
    "and": "one",
    "against": "told",
}
STATE = "recloop_rollout_state_seconds"


def states(engine: Engine, now: int) -> dict[str, Values]:
    """Seconds since each of the newest rollouts came where it stands, and which gate said so."""
    found: Values = {}
    for one in rollout.history(engine, NEWEST):
        for last in rollout.transitions_of(engine, one.id, 1):
            gate, reason = cause(last)
            labels = {"rollout": str(one.id), "policy": one.challenger, "state": one.state}
            key = tuple(sorted((labels | {"gate": gate, "reason": reason}).items()))
            found[key] = max(0.0, (now - last.ts) / 1e6)
    return {STATE: found}


def tell(engine: Engine, urls: Sequence[str], now: int | None = None) -> list[Alert]:
    """Look at rollouts alone, and send what has to be known, each once; returns what was new.

    Raises:
        NotifyError: as ``notify``.
    """
    now = now_us() if now is None else now
    alerts = evaluate(rollouts(), FromStore(engine, states(engine, now), now))
    return notify(engine, alerts, urls, ("rollout",), now)


def cause(last: Transition) -> tuple[str, str]:
    """The gate that made the transition, and the code of its reason; empty for a person or a passed gate."""
    if last.target not in ("refused", "rolled_back", "paused"):
        return "", ""
    said = last.said
    if said is None:  # by a person, or by a version that kept no codes; only gates refuse
        gate = last.why.partition(":")[0] if last.target == "refused" else ""
        return (gate, VERBATIM) if gate in GATES else ("", "")
    gate = ""
    while (around := AROUND.get(said["code"])) and isinstance(said[around], dict):
        if said["code"] == "by" and isinstance(said["gate"], dict):
            gate = said["gate"]["code"]
        said = said[around]
    return (gate, said["code"]) if gate else ("", "")

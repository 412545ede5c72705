"""Delivery: who is served by which slot, how a challenger becomes champion, and the gateway between.

Modules by name: ``slots`` (processes), ``rollout`` (state machine), ``transition`` (one step of it),
``records`` (what is written of it), ``lease`` (one controller at a time), ``controller`` (acts), ``release``
(from the registry on; needs torch and MLflow), ``gates`` (verdicts; of the slot: ``smoke``, of the shadow:
``shadow_gate``, of the A/B test: ``trial``), ``retirement`` (after the switch), ``gateway`` (HTTP),
``shadow`` (its copies of requests), ``tally`` (its counts for the gates), ``presence`` (those of all),
``visitors`` (simulated people over HTTP; needs torch).
"""

from recloop.delivery.gates import Verdict, decide
from recloop.delivery.outcomes import Outcomes, outcomes
from recloop.delivery.rollout import Conflict, Rollout, Transition
from recloop.delivery.routing import Routing, Target, read_routing

__all__ = [
    "Conflict",
    "Outcomes",
    "Rollout",
    "Routing",
    "Target",
    "Transition",
    "Verdict",
    "decide",
    "outcomes",
    "read_routing",
]

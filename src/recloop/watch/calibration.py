"""The user model against reality: what it told of each policy's people, and what they did."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from recloop.watch.policies import PolicyFigures


@dataclass(frozen=True)
class Held:
    """One act under one policy.

    Attributes:
        act: ``click`` or ``purchase``.
        expected: acts per request, as the user model told before.
        seen: acts per request, of the newest impressions.
        low: bound of ``seen`` with 99.9 %, clustered by person; minus infinity below two people.
        high: the other one.
        error: see ``miscalibration``.
    """

    policy: str
    act: str
    expected: float
    seen: float
    low: float
    high: float
    error: float


def held_against(told: Mapping[str, Mapping[str, float]], found: Mapping[str, PolicyFigures]) -> list[Held]:
    """Every act of every policy that both know; ``told``: expected acts per request, by policy and act."""
    held = []
    for policy, one in found.items():
        acts = {
            "click": (one.clicks, one.people_clicks),
            "purchase": (one.purchases, one.people_purchases),
        }
        for act, (seen, bounds) in acts.items():
            if rate := told.get(policy, {}).get(act):
                held.append(Held(policy, act, rate, seen, *bounds, miscalibration(rate, *bounds)))
    return held


def miscalibration(rate: float, low: float, high: float) -> float:
    """The least ``|ln(seen / expected)|`` that the bounds of what was seen leave, 0 where they hold ``rate``.

    Calibration in the large: what was seen over what a model told (Steyerberg, "Clinical Prediction Models",
    2nd edition, Springer 2019, section 15.3). Infinite bounds leave everything.
    """
    if low > rate:
        return math.log(low / rate)
    if high < rate:
        return math.log(rate / max(high, 1e-9))
    return 0.0

"""Gates: rules with the verdicts pass, fail and no-data. No-data never promotes.

Another gate is a function here that returns a ``Verdict``, and a line where the release flow
collects them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from sqlalchemy import Engine

from recloop.delivery.meters import SlotFigures
from recloop.delivery.outcomes import FALLBACK, outcomes
from recloop.delivery.rollout import Rollout, transitions_of
from recloop.experiments import Clusters, Difference, effective, excess, sample_ratio, watched
from recloop.settings.params import DeliveryParams, RewardParams

Outcome = Literal["pass", "fail", "no-data"]
BROKEN = 0.001  # p value below which failures, or the sizes of the arms, are no accident
WRONG = 0.05  # probability of a wrong verdict on rewards, either way
NOBODY = Clusters(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Verdict:
    """What one gate says, why, and on which figures."""

    name: str
    outcome: Outcome
    why: str
    figures: Mapping[str, float | int | str | None] = field(default_factory=dict)


def decide(verdicts: Sequence[Verdict]) -> Literal["promote", "refuse", "wait"]:
    """One fail refuses; all pass promotes; else the data is lacking, and one waits."""
    outcomes_seen = {verdict.outcome for verdict in verdicts}
    if "fail" in outcomes_seen:
        return "refuse"
    return "promote" if outcomes_seen == {"pass"} else "wait"


def offline(figures: Mapping[str, float] | None, margin: float) -> Verdict:
    """Challenger against champion in the same held-out people.

    Args:
        figures: ``champion``, ``challenger`` (mean values), ``low`` and ``high`` (interval of their
            paired difference); None where there is no champion to compare with.
        margin: share of the champion's value that may be lost at most.
    """
    if figures is None:
        return Verdict("offline", "no-data", "there is no champion's evaluation to compare with")
    outcome, why = _non_inferior(figures["champion"], figures["low"], figures["high"], margin)
    return Verdict("offline", outcome, why, dict(figures))


def canary(
    engine: Engine, rollout: Rollout, params: DeliveryParams, reward: RewardParams, seen: SlotFigures
) -> Verdict:
    """The challenger among real people since its canary began, against the champion at the same time.

    Failures and latency are the gateway's (``seen``, from its metrics); rewards are the store's, with
    an interval clustered by person. Failures are judged as soon as they cannot be an accident of a
    few requests, rewards only after ``canary_requests``. The flow asks again and again, so the bounds and
    both p values are always valid: an equal challenger fails, and one that is worse by the margin passes,
    with probability ``WRONG`` at most, however long the canary lasts.
    """
    began = next((t for t in transitions_of(engine, rollout.id) if t.target == "canary"), None)
    if began is None:
        return Verdict("canary", "no-data", f"rollout {rollout.id} has not started its canary")
    found = outcomes(engine, reward, since=int(began.figures["since"]))
    arms = [
        found[name].people if name in found else NOBODY for name in (rollout.champion, rollout.challenger)
    ]
    requests = int(arms[1].counts.sum())
    total = sum(f.requests for f in found.values())
    fallbacks = found[FALLBACK].requests / total if FALLBACK in found else 0.0
    share = began.figures["share"]
    ratio = sample_ratio([len(arm.counts) for arm in arms], [1 - share, share]) if requests else None
    planned = 4 * params.canary_requests * (1 - share)  # effective(), with canary_requests at this share
    known = effective(arms[0].counts.sum(), requests) / planned if planned else 0.0
    gap, _ = watched(arms[0], arms[1], known, alpha=2 * WRONG)
    figures: dict[str, float | None] = {
        "requests": requests,
        "asked": seen.asked,
        "failed": seen.failed,
        "p99_ms": seen.p99_ms,
        "fallback_share": fallbacks,
        "sample_ratio_p": ratio,
        "champion": gap.control,
        "challenger": gap.treatment,
        "difference": gap.difference,
        "low": gap.low,
        "high": gap.high,
    }
    outcome, why = _canary(figures, gap, params)
    finite = {name: x if x is None or math.isfinite(x) else None for name, x in figures.items()}
    return Verdict("canary", outcome, why, finite)


def _canary(figures: Mapping, gap: Difference, params: DeliveryParams) -> tuple[Outcome, str]:
    asked, failed, p99, ratio = (figures[name] for name in ("asked", "failed", "p99_ms", "sample_ratio_p"))
    if asked and excess(failed, asked, params.max_error_rate) < BROKEN:
        return "fail", (
            f"{failed} of {asked} requests got no valid answer:"
            f" more than the {params.max_error_rate:.1%} that is allowed"
        )
    if figures["requests"] < params.canary_requests or not asked:
        return "no-data", f"{figures['requests']} of {params.canary_requests} requests so far"
    if failed > params.max_error_rate * asked:
        return "no-data", f"{failed} of {asked} requests failed: too many, but it may be an accident"
    if figures["fallback_share"] > params.max_error_rate:
        return "fail", f"{figures['fallback_share']:.1%} of all answers came from no slot"
    if p99 > params.max_p99_ms:
        return "fail", f"99 % are answered within {p99:.0f} ms; {params.max_p99_ms:.0f} ms are allowed"
    if ratio < BROKEN:
        return "no-data", f"the arms' sizes are not the shares asked for (p = {ratio:.1e}): not comparable"
    level = "each bound at 95 %, at any time"
    return _non_inferior(gap.control, gap.low, gap.high, params.non_inferiority_margin, level)


def _non_inferior(
    champion: float, low: float, high: float, margin: float, level: str = "at 95 %"
) -> tuple[Outcome, str]:
    """Fail when surely worse, pass when surely not worse by more than the margin, else no-data."""
    interval = f"challenger minus champion is within [{low:.3f}, {high:.3f}] {level}"
    allowed = -margin * abs(champion)
    if high < 0:
        return "fail", f"{interval}: worse"
    if low > allowed:
        return "pass", f"{interval}: {'better' if low > 0 else f'not worse by more than {-allowed:.3f}'}"
    return "no-data", f"{interval}: it may be worse by more than {-allowed:.3f}"

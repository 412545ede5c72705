"""The shadow's gate: the challenger's answers to copies of requests, beside the champion's to the same."""

import math

from recloop.delivery.gates import BROKEN, Verdict
from recloop.delivery.tally import ShadowFigures
from recloop.experiments import excess
from recloop.experiments.drift import counts_drift
from recloop.settings.params import DeliveryParams


def shadow(params: DeliveryParams, seen: ShadowFigures) -> Verdict:
    """Pass after ``shadow_requests`` copies that were answered validly, in time, and as such a policy would.

    Failures are judged as soon as they cannot be an accident. Propensities are compared by their distance
    (population stability index over slates' geometric means): a learned policy may differ from another,
    but one that differs by more than ``max_shift`` has collapsed or lost its exploration. Scores of two
    policies have no common scale: their effect size is told, and decides nothing.
    """
    drift = counts_drift("propensities", seen.propensities[1], seen.propensities[0], params.max_shift)
    figures = {
        "asked": seen.asked,
        "failed": seen.failed,
        "dropped": seen.dropped,
        "p50_ms": seen.p50_ms[0],
        "champion_p50_ms": seen.p50_ms[1],
        "p99_ms": seen.p99_ms[0],
        "champion_p99_ms": seen.p99_ms[1],
        "overlap": seen.overlap,
        "propensity_shift": drift.distance if drift else None,
        "score_effect": effect(seen),
    }
    said = _judge(params, figures, drift.drifted if drift else False)
    finite = {name: x if x is None or math.isfinite(x) else None for name, x in figures.items()}
    return Verdict("shadow", said.outcome, said.why, finite, said.remedy)


def _judge(params: DeliveryParams, figures: dict, drifted: bool) -> Verdict:
    asked, failed, p99 = figures["asked"], figures["failed"], figures["p99_ms"]
    if asked and excess(failed, asked, params.max_error_rate) < BROKEN:
        why = f"{failed} of {asked} copies got no valid answer; {params.max_error_rate:.1%} are allowed"
        return Verdict("", "fail", why, remedy="find out from the slot's log why, and mend it")
    if asked < params.shadow_requests:
        why = f"{asked} of {params.shadow_requests} copies so far"
        return Verdict("", "no-data", why, remedy="people have to come: they are asked by nobody else")
    if failed > params.max_error_rate * asked:
        return Verdict(
            "", "no-data", f"{failed} of {asked} copies failed: too many, but it may be an accident"
        )
    if p99 is None or math.isnan(p99) or figures["overlap"] is None or figures["propensity_shift"] is None:
        return Verdict(
            "", "no-data", "no latency or no answers were counted", remedy="look at the gateways' logs"
        )
    if p99 > params.max_p99_ms:
        why = f"99 % of the copies are answered within {p99:.0f} ms; {params.max_p99_ms:.0f} ms are allowed"
        return Verdict("", "fail", why, remedy="a smaller network, fewer candidates or more cores")
    if drifted:
        why = (
            "its propensities are of another kind than the champion's: distance"
            f" {figures['propensity_shift']:.2f} above {params.max_shift:g},"
            f" {figures['overlap']:.0%} of the items in common"
        )
        return Verdict(
            "", "fail", why, remedy="look at its scores and `serving`, or allow more by delivery.max_shift"
        )
    return Verdict(
        "",
        "pass",
        f"{asked} copies, {failed} failed, p50 {figures['p50_ms']:.0f} ms and p99 {p99:.0f} ms beside the"
        f" champion's {figures['champion_p50_ms'] or math.nan:.0f} and"
        f" {figures['champion_p99_ms'] or math.nan:.0f};"
        f" {figures['overlap']:.0%} of the items in common",
    )


def effect(seen: ShadowFigures) -> float | None:
    """Cohen's d of the slates' mean scores, shadow minus champion; None where an arm has fewer than two."""
    means, variances = [], []
    for number, total, squares in seen.scores:
        if number < 2:
            return None
        means.append(total / number)
        variances.append(max(0.0, squares - number * means[-1] ** 2) / (number - 1))
    spread = (sum(variances) / 2) ** 0.5
    return (means[0] - means[1]) / spread if spread else None

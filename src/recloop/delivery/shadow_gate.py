"""The shadow's gate: the challenger's answers to copies of requests, beside the champion's to the same."""

import math

from recloop.delivery.gates import BROKEN, Verdict
from recloop.delivery.tally import ShadowFigures
from recloop.delivery.wording import words
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
        why = words("copies_failed", failed=failed, asked=asked, allowed=params.max_error_rate)
        return Verdict("", "fail", why, remedy=words("mend_slot"))
    if asked < params.shadow_requests:
        why = words("few_copies", asked=asked, needed=params.shadow_requests)
        return Verdict("", "no-data", why, remedy=words("people_ask"))
    if failed > params.max_error_rate * asked:
        return Verdict("", "no-data", words("copies_accident", failed=failed, asked=asked))
    if p99 is None or math.isnan(p99) or figures["overlap"] is None or figures["propensity_shift"] is None:
        return Verdict("", "no-data", words("nothing_counted"), remedy=words("look_at_logs"))
    if p99 > params.max_p99_ms:
        why = words("slow_copies", p99_ms=p99, allowed_ms=params.max_p99_ms)
        return Verdict("", "fail", why, remedy=words("be_small"))
    if drifted:
        distance, overlap = figures["propensity_shift"], figures["overlap"]
        why = words("other_propensities", distance=distance, threshold=params.max_shift, overlap=overlap)
        return Verdict("", "fail", why, remedy=words("look_at_scores"))
    times = {name: figures[name] or math.nan for name in ("p50_ms", "champion_p50_ms", "champion_p99_ms")}
    counts = {"asked": asked, "failed": failed, "overlap": figures["overlap"], "p99_ms": p99}
    return Verdict("", "pass", words("copies_well", **counts, **times))


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

"""Gates: rules with the verdicts pass, fail and no-data. No-data never promotes.

Another gate is a function that returns a ``Verdict``, and its call in ``release.ask_gate``. Those of the
shadow and of the A/B test are ``shadow_gate`` and ``trial``.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from sqlalchemy import Engine, func, literal, select

from recloop.delivery.outcomes import FALLBACK, Outcomes, outcomes
from recloop.delivery.records import Rollout, salt_of, step_of
from recloop.delivery.shifts import action_shift, input_shifts
from recloop.delivery.tally import SlotFigures
from recloop.experiments import Clusters, effective, excess, place, sample_ratio, watched
from recloop.experiments.drift import Drift
from recloop.experiments.metrics import Metric, metric_named
from recloop.schema import now_us
from recloop.settings.params import DeliveryParams, RewardParams
from recloop.store.tables import impressions

Outcome = Literal["pass", "fail", "no-data"]
BROKEN = 0.001  # p value below which failures, or the sizes of the arms, are no accident
UNSEEN = 0.05  # share of the logged answers that the gateways' counts may lack
LATE = 3.0  # seconds by which those counts may lie behind the log
WRONG = 0.05  # probability of a wrong verdict on rewards, either way
NOBODY = Clusters(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Verdict:
    """What one gate says, why, and on which figures; ``remedy`` is what would have to change to pass."""

    name: str
    outcome: Outcome
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""

    @property
    def told(self) -> str:
        """The reason and the remedy, as they are written beside a transition."""
        return f"{self.why}. To pass: {self.remedy}" if self.remedy else self.why


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
    said = _non_inferior(figures["champion"], figures["low"], figures["high"], margin)
    return Verdict("offline", said.outcome, said.why, dict(figures), said.remedy)


def canary(
    engine: Engine, rollout: Rollout, params: DeliveryParams, reward: RewardParams, seen: SlotFigures
) -> Verdict:
    """The challenger among real people since the step began, against the champion at the same time.

    Failures and latency are the gateways' (``seen``); rewards are the store's, with
    an interval clustered by person. Failures are judged as soon as they cannot be an accident of a
    few requests. A step that others follow passes after ``bake_seconds`` and ``step_requests`` where no harm
    is shown; the last one after ``canary_requests``, where the challenger is shown not to be worse by more
    than the margin. Steps are not pooled: a share that changes with time would compare different times. Nor
    are those compared who had the challenger in an earlier step: if they like it better they come back more
    often, so that they and the others are no longer alike. Everybody else had the champion until this step.
    In an A/B test rewards and guardrails are the test's (``trial``), and all else is asked here.

    A controller asks again and again, so the bounds and p values are always valid: one that is worse by
    the margin passes the last step with probability ``WRONG`` at most, and an equal challenger fails at any
    step and in any metric with probability ``WRONG`` at most (each gets its part: Bonferroni), however long
    it lasts.
    """
    step = step_of(engine, rollout.id)
    if step is None:
        return Verdict("canary", "no-data", f"rollout {rollout.id} has not started its canary")
    salt, rest = salt_of(rollout.id), 1 - step.before
    names = rollout.champion, rollout.challenger

    def new(person: str) -> bool:
        return place(person, salt) >= step.before

    found = outcomes(engine, reward, step.since, who=new)
    arms = _arms(found, names)
    requests = int(arms[1].counts.sum())
    total = sum(f.requests for f in found.values())
    fallbacks = found[FALLBACK].requests / total if FALLBACK in found else 0.0
    shares = [(1 - step.share) / rest, (step.share - step.before) / rest]
    ratio = sample_ratio([len(arm.counts) for arm in arms], shares) if requests else None
    planned = 4 * params.canary_requests * shares[0]  # effective(), with canary_requests at this share
    known = effective(arms[0].counts.sum(), requests) / planned if planned else 0.0
    part = 2 * WRONG / ((step.number + len(step.later)) * (1 + len(params.guardrails)))
    gap, _ = watched(arms[0], arms[1], known, alpha=2 * WRONG)
    strict, _ = watched(arms[0], arms[1], known, alpha=part)
    figures: dict[str, Any] = {
        "requests": requests,
        "just_now": _just_now(engine, rollout.challenger, step.since),
        "asked": seen.asked,
        "failed": seen.failed,
        "p99_ms": seen.p99_ms,
        "fallback_share": fallbacks,
        "sample_ratio_p": ratio,
        "champion": gap.control,
        "challenger": gap.treatment,
        "difference": gap.difference,
        "low": gap.low,
        "high": strict.high,
        "step": step.number,
        "share": step.share,
        "baked_s": max(0.0, (now_us() - step.ts) / 1e6),
    }
    last = not step.later and step.plan is None
    needed = params.canary_requests if last else params.step_requests
    said = _operations(figures, params, needed)
    if requests >= needed and (said is None or said.outcome != "fail"):
        inputs = input_shifts(engine, *names, step.since, new)
        actions = action_shift(engine, *names, step.since, params.max_shift)
        figures |= {f"shift_{drift.feature}": drift.distance for drift in inputs}
        figures["shift_actions"] = actions.distance if actions else None
        apart = _comparable(ratio, inputs, actions)
        hurt: dict[str, str] = {}
        for name in () if step.plan else params.guardrails:
            worse, figures[name] = _guardrail(engine, name, reward, step.since, new, names, known, part)
            hurt |= {name: figures[name]} if worse else {}
        rewards = _say("pass", "failures, latency and people are as they should be")
        if apart is None and step.plan is None:
            rewards = _rewards(figures, params, last, hurt)
        if figures["baked_s"] < params.bake_seconds and rewards.outcome == "pass":
            rewards = _say("no-data", f"{figures['baked_s']:.0f} of {params.bake_seconds:.0f} s so far")
        found_out = [one for one in (apart, rewards, said) if one is not None]
        # Harm that is shown ends it, whatever else is not known yet.
        said = next((one for one in found_out if one.outcome == "fail"), said or apart or rewards)
    assert said is not None
    finite = {
        name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in figures.items()
    }
    return Verdict("canary", said.outcome, said.why, finite, said.remedy)


def _just_now(engine: Engine, policy: str, since: int) -> int:
    """Answers of the last seconds, of which the gateways may not have told yet."""
    newest = now_us() - round(LATE * 1e6)
    query = select(func.count()).where(
        impressions.c.seq > since, impressions.c.position == 0, impressions.c.policy == policy,
        impressions.c.ts > newest,
    )  # fmt: skip
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def _arms(found: Mapping[str, Outcomes], names: Sequence[str]) -> list[Clusters]:
    return [found[name].people if name in found else NOBODY for name in names]


def _operations(figures: Mapping, params: DeliveryParams, needed: int) -> Verdict | None:
    """What the gateway says against going on; None for nothing."""
    asked, failed, p99 = (figures[name] for name in ("asked", "failed", "p99_ms"))
    if asked and excess(failed, asked, params.max_error_rate) < BROKEN:
        return _say(
            "fail",
            f"{failed} of {asked} requests got no valid answer:"
            f" more than the {params.max_error_rate:.1%} that is allowed",
            "find out from the slot's log why, and mend it",
        )
    if figures["requests"] < needed or not asked:
        return _say(
            "no-data", f"{figures['requests']} of {needed} requests so far", "more people have to come"
        )
    if failed > params.max_error_rate * asked:
        return _say("no-data", f"{failed} of {asked} requests failed: too many, but it may be an accident")
    if figures["fallback_share"] > params.max_error_rate:
        return _say(
            "fail",
            f"{figures['fallback_share']:.1%} of all answers came from no slot",
            f"both slots have to answer; {params.max_error_rate:.1%} are allowed",
        )
    if p99 is None or math.isnan(p99):
        return _say("no-data", "no latency was counted", "look at the gateways' logs")
    if p99 > params.max_p99_ms:
        return _say(
            "fail",
            f"99 % are answered within {p99:.0f} ms; {params.max_p99_ms:.0f} ms are allowed",
            f"answer within {params.max_p99_ms:.0f} ms: a smaller network, fewer candidates or more cores",
        )
    if asked < (1 - UNSEEN) * (figures["requests"] - figures["just_now"]):
        return _say(
            "no-data",
            f"the log has {figures['requests']} answers of the challenger, but gateways tell of {asked} only",
            "a gateway serves that does not write its counts: its log says why",
        )
    return None


def _comparable(ratio: float | None, inputs: Sequence[Drift], actions: Drift | None) -> Verdict | None:
    """Arms of different people cannot be compared; answers of another kind are not let further."""
    if actions is not None and actions.drifted:
        return _say(
            "fail",
            f"{actions.feature}: distance {actions.distance:.2f} to the champion's,"
            f" above {actions.threshold:.2f}",
            "it shows other kinds of items: find out why, or allow more by delivery.max_shift",
        )
    mend = "something other than the assignment chooses who gets which slot: find it"
    if ratio is not None and not ratio >= BROKEN:
        return _say(
            "no-data",
            f"the arms' sizes are not the shares asked for (p = {ratio:.1e}): not comparable",
            mend,
        )
    if actions is None or ratio is None:
        return _say(
            "no-data", "no answers of one of the arms were logged", "people of both arms have to come"
        )
    for drift in inputs:
        if drift.drifted:
            why = f"the arms differ by {drift.feature}: {drift.distance:.2f} above {drift.threshold:.2f}"
            return _say("no-data", why, mend)
    return None


def _rewards(figures: Mapping, params: DeliveryParams, last: bool, hurt: Mapping[str, str]) -> Verdict:
    if not math.isfinite(figures["low"]) or not math.isfinite(figures["high"]):
        return _say(
            "no-data", "rewards of one of the arms are not known", "two people of each arm have to come"
        )
    for name, told in hurt.items():
        return _say("fail", f"guardrail {name}: {told}", "it must not get worse: train with another reward")
    champion, low, high = (figures[name] for name in ("champion", "low", "high"))
    said = _non_inferior(
        champion, low, high, params.non_inferiority_margin, "each bound at 95 %, at any time"
    )
    if said.outcome == "no-data" and not last:
        return _say("pass", f"no harm shown at a share of {figures['share']:.0%}: {said.why}")
    return said


def _guardrail(
    engine: Engine,
    name: str,
    reward: RewardParams,
    since: int,
    who: Callable[[str], bool],
    names: Sequence[str],
    known: float,
    alpha: float,
) -> tuple[bool, str]:
    """Whether the metric is shown to be worse, and its interval in words."""
    metric = metric_named(name)
    found = outcomes(engine, reward, since, who=who, worth=metric.worth or (lambda _: literal(0.0)))
    control, treatment = (_per(metric, arm) for arm in _arms(found, names))
    gap, _ = watched(control, treatment, known, alpha)
    worse = gap.high < 0 if metric.better == "higher" else gap.low > 0
    return worse, f"challenger minus champion is within [{gap.low:.3f}, {gap.high:.3f}]"


def _per(metric: Metric, arm: Clusters) -> Clusters:
    totals = arm.counts if metric.worth is None else arm.totals
    if metric.once:
        totals = (totals > 0).astype(float)
    return Clusters(totals, arm.counts if metric.per == "request" else np.ones(len(totals)))


def _non_inferior(champion: float, low: float, high: float, margin: float, level: str = "at 95 %") -> Verdict:
    """Fail when surely worse, pass when surely not worse by more than the margin, else no-data."""
    interval = f"challenger minus champion is within [{low:.3f}, {high:.3f}] {level}"
    allowed = -margin * abs(champion)
    if high < 0:
        return _say(
            "fail",
            f"{interval}: worse",
            f"its low end has to be above {allowed:.3f}, which is {allowed - low:.3f} more than it is:"
            " train on more or newer data, or with other parameters (`recloop search`)",
        )
    if low > allowed:
        return _say(
            "pass", f"{interval}: {'better' if low > 0 else f'not worse by more than {-allowed:.3f}'}"
        )
    return _say(
        "no-data",
        f"{interval}: it may be worse by more than {-allowed:.3f}",
        f"the interval has to lie above {allowed:.3f}: more people, or a better policy",
    )


def _say(outcome: Outcome, why: str, remedy: str = "") -> Verdict:
    return Verdict("", outcome, why, {}, remedy)

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
from recloop.delivery.wording import Words, words
from recloop.experiments import Clusters, effective, excess, place, sample_ratio, watched
from recloop.experiments.drift import Drift
from recloop.experiments.metrics import Metric, metric_named
from recloop.schema import now_us
from recloop.settings.params import DeliveryParams, RewardParams
from recloop.store.tables import impressions

GATES = ("offline", "smoke", "shadow", "canary", "ab", "switch")  # in the order in which they are asked
Outcome = Literal["pass", "fail", "no-data"]
BROKEN = 0.001  # p value below which failures, or the sizes of the arms, are no accident
UNSEEN = 0.05  # share of the logged answers that the gateways' counts may lack
LATE = 3.0  # seconds by which those counts may lie behind the log
WRONG = 0.05  # probability of a wrong verdict on rewards, either way
NOBODY = Clusters(np.zeros(0), np.zeros(0))


@dataclass(frozen=True)
class Verdict:
    """What one gate says, why, and on which figures; ``remedy`` is what would have to change to pass.

    A gate gives both as ``words``, so that people can read them in their language.
    """

    name: str
    outcome: Outcome
    why: str
    figures: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = ""

    @property
    def told(self) -> str:
        """The reason and the remedy, as they are written beside a transition."""
        why = self.why if isinstance(self.why, Words) else Words(self.why)
        return words("told", why=why, remedy=self.remedy) if self.remedy else why


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
        return Verdict("offline", "no-data", words("nothing_to_compare"))
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
        return Verdict("canary", "no-data", words("not_started", rollout=rollout.id))
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
        hurt: dict[str, Words] = {}
        for name in () if step.plan else params.guardrails:
            worse, said_of_it = _guardrail(engine, name, reward, step.since, new, names, known, part)
            figures[name] = str(said_of_it)
            hurt |= {name: said_of_it} if worse else {}
        rewards = _say("pass", words("as_it_should"))
        if apart is None and step.plan is None:
            rewards = _rewards(figures, params, last, hurt)
        if figures["baked_s"] < params.bake_seconds and rewards.outcome == "pass":
            baked = words("baking", seconds=figures["baked_s"], needed=params.bake_seconds)
            rewards = _say("no-data", baked)
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
    counts = {"failed": failed, "asked": asked}
    allowed, allowed_ms = params.max_error_rate, params.max_p99_ms
    if asked and excess(failed, asked, allowed) < BROKEN:
        return _say("fail", words("failures", **counts, allowed=allowed), words("mend_slot"))
    if figures["requests"] < needed or not asked:
        few = words("few_requests", requests=figures["requests"], needed=needed)
        return _say("no-data", few, words("more_people"))
    if failed > allowed * asked:
        return _say("no-data", words("accident", **counts))
    if figures["fallback_share"] > allowed:
        unserved = words("fallbacks", share=figures["fallback_share"])
        return _say("fail", unserved, words("both_answer", allowed=allowed))
    if p99 is None or math.isnan(p99):
        return _say("no-data", words("no_latency"), words("look_at_logs"))
    if p99 > allowed_ms:
        slow = words("slow", p99_ms=p99, allowed_ms=allowed_ms)
        return _say("fail", slow, words("be_fast", allowed_ms=allowed_ms))
    if asked < (1 - UNSEEN) * (figures["requests"] - figures["just_now"]):
        uncounted = words("uncounted", requests=figures["requests"], asked=asked)
        return _say("no-data", uncounted, words("find_gateway"))
    return None


def _comparable(ratio: float | None, inputs: Sequence[Drift], actions: Drift | None) -> Verdict | None:
    """Arms of different people cannot be compared; answers of another kind are not let further."""
    if actions is not None and actions.drifted:
        return _say("fail", words("other_items", **_distance(actions)), words("show_alike"))
    if ratio is not None and not ratio >= BROKEN:
        return _say("no-data", words("uneven_arms", p=ratio), words("find_chooser"))
    if actions is None or ratio is None:
        return _say("no-data", words("empty_arm"), words("both_arms"))
    for drift in inputs:
        if drift.drifted:
            return _say("no-data", words("unlike_arms", **_distance(drift)), words("find_chooser"))
    return None


def _distance(drift: Drift) -> dict[str, Any]:
    feature = words(f"feature_{drift.feature}")
    return {"feature": feature, "distance": drift.distance, "threshold": drift.threshold}


def _rewards(figures: Mapping, params: DeliveryParams, last: bool, hurt: Mapping[str, Words]) -> Verdict:
    if not math.isfinite(figures["low"]) or not math.isfinite(figures["high"]):
        return _say("no-data", words("no_rewards"), words("two_people"))
    for name, bounds in hurt.items():
        return _say("fail", words("guardrail", metric=name, told=bounds), words("keep_guardrail"))
    champion, low, high = (figures[name] for name in ("champion", "low", "high"))
    said = _non_inferior(champion, low, high, params.non_inferiority_margin, "interval_at_any_time")
    if said.outcome == "no-data" and not last:
        return _say("pass", words("no_harm", share=figures["share"], told=said.why))
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
) -> tuple[bool, Words]:
    """Whether the metric is shown to be worse, and its interval in words."""
    metric = metric_named(name)
    found = outcomes(engine, reward, since, who=who, worth=metric.worth or (lambda _: literal(0.0)))
    control, treatment = (_per(metric, arm) for arm in _arms(found, names))
    gap, _ = watched(control, treatment, known, alpha)
    worse = gap.high < 0 if metric.better == "higher" else gap.low > 0
    return worse, words("bounds", low=gap.low, high=gap.high)


def _per(metric: Metric, arm: Clusters) -> Clusters:
    totals = arm.counts if metric.worth is None else arm.totals
    if metric.once:
        totals = (totals > 0).astype(float)
    return Clusters(totals, arm.counts if metric.per == "request" else np.ones(len(totals)))


def _non_inferior(
    champion: float, low: float, high: float, margin: float, level: str = "interval"
) -> Verdict:
    """Fail when surely worse, pass when surely not worse by more than the margin, else no-data."""
    interval = words(level, low=low, high=high)
    allowed = -margin * abs(champion)
    if high < 0:
        lacking = words("be_above", allowed=allowed, lacking=allowed - low)
        return _say("fail", words("worse", interval=interval), lacking)
    if low > 0:
        return _say("pass", words("better", interval=interval))
    if low > allowed:
        return _say("pass", words("not_worse", interval=interval, margin=-allowed))
    unsure = words("maybe_worse", interval=interval, margin=-allowed)
    return _say("no-data", unsure, words("lie_above", allowed=allowed))


def _say(outcome: Outcome, why: Words, remedy: str = "") -> Verdict:
    return Verdict("", outcome, why, {}, remedy)

"""What the store says of people, rewards, data and training, as Prometheus's gauges.

The rules, the exporter and the dashboards of ``infra/`` know them by these names. All are computed in the
background, from the newest part of the log or from its digests: they cost the same however long it is.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import Engine, func, select

from recloop.schema import now_us
from recloop.settings.params import Params
from recloop.store.snapshot import Watermark
from recloop.store.tables import events, impressions, quarantine
from recloop.watch.calibration import held_against
from recloop.watch.digest import HOUR_US, KEPT_US, digest, digested
from recloop.watch.expressions import Values
from recloop.watch.look import ENOUGH, look
from recloop.watch.memory import Memory
from recloop.watch.notes import expected, flow_runs
from recloop.watch.policies import PolicyFigures, policies
from recloop.watch.presence import presence
from recloop.watch.reports import GAUGES as REPORTED
from recloop.watch.reports import reported
from recloop.watch.rollouts import states
from recloop.watch.season import Found, seasonal

DAY_US = 24 * HOUR_US
NEWEST = 1_000_000  # events among which the last day's are looked for
MARK = Path("data/watermark.json")  # of the data that the last training saw, in the project's folder
GAUGES = {
    "recloop_policy_requests": "Requests of the policy among the newest impressions",
    "recloop_policy_reward": "Reward per request",
    "recloop_policy_reward_low": "Lower bound of it, 95 %",
    "recloop_policy_reward_high": "Upper bound of it, 95 %",
    "recloop_policy_click_ratio": "Clicks per request",
    "recloop_policy_purchase_ratio": "Purchases per request",
    "recloop_policy_satisfaction_ratio": "Good ratings over ratings and dismissals",
    "recloop_policy_coverage_ratio": "Different items shown over those that can be",
    "recloop_policy_diversity_ratio": "Different categories per item of a slate",
    "recloop_policy_exploration_ratio": "Share of picks that the uniform part of the sampling drew",
    "recloop_data_age_seconds": "Time since the newest impression",
    "recloop_feedback_age_seconds": "Time since the newest act of feedback",
    "recloop_quarantined_ratio": "Share of the last day's rows that were refused",
    "recloop_training_age_seconds": "Time since a training ended well",
    "recloop_requests_since_training": "Requests that no training has seen",
    "recloop_reward_change": "Reward per request since training against before",
    "recloop_reward_change_low": "Lower bound of it, 95 % at all times",
    "recloop_reward_change_high": "Upper bound of it, 95 % at all times",
    "recloop_drift_distance": "Distance of the newest requests from the reference",
    "recloop_drift_threshold": "What the distance must exceed to matter and be no chance",
    "recloop_user_model_expected_ratio": "Acts per request that the user model told of the policy",
    "recloop_user_model_error": "How far seen over expected lies from 1 at least, |ln|, with 99.9 %",
    "recloop_rollout_state_seconds": "Time since the newest transition of a rollout, of the newest five",
    "recloop_flow_failures": "Failed runs of a flow since one that ended well",
    "recloop_flow_runs": "Runs of a flow that have ended",
    "recloop_flow_seconds": "Time that the last run of a flow took",
    "recloop_flow_age_seconds": "Time since a run of a flow ended well",
    **REPORTED,
}


def gauges(
    engine: Engine, params: Params, now: int | None = None, memory: Memory | None = None
) -> dict[str, Values]:
    """By name and labels; the digests are brought up to date first. ``memory``: of the looks before.

    Must be called in the project's folder, else nothing is known of training.
    """
    now, memory = now_us() if now is None else now, memory or Memory()
    digest(engine, now)
    found: dict[str, Values] = {name: {} for name in GAUGES}
    trained = Watermark.load(MARK) if MARK.exists() else None
    seen = look(engine, params, trained, memory) if trained else None
    drifts = seasonal(digested(engine, now - KEPT_US, now), now, params.watch.zone)
    if trained is not None:
        drifts += [one for one in memory.drifts(engine, trained.impressions, now) if one.people >= ENOUGH]
    if seen is not None and seen.requests >= ENOUGH:
        for name, value in (
            ("", seen.reward.treatment - seen.reward.control),
            ("_low", seen.reward.low),
            ("_high", seen.reward.high),
        ):
            found[f"recloop_reward_change{name}"][()] = value
    if seen is not None:
        found["recloop_requests_since_training"][()] = float(seen.requests)
    _note_drifts(found, drifts)
    _note_policies(found, engine, policies(engine, params))
    _note_ages(found, engine, now)
    _note_flows(found, engine, now)
    return found | reported() | presence(engine, now) | states(engine, now)


def _note_drifts(found: dict[str, Values], drifts: list[Found]) -> None:
    for one in drifts:
        labels = {
            "feature": one.drift.feature, "kind": one.kind, "policy": one.policy, "reference": one.reference
        }  # fmt: skip
        key = tuple(sorted(labels.items()))
        found["recloop_drift_distance"][key] = one.drift.distance
        found["recloop_drift_threshold"][key] = one.drift.threshold


def _note_policies(found: dict[str, Values], engine: Engine, figures: Mapping[str, PolicyFigures]) -> None:
    for policy, one in figures.items():
        key = (("policy", policy),)
        values = {
            "requests": one.requests, "reward": one.reward, "reward_low": one.low, "reward_high": one.high,
            "click_ratio": one.clicks, "purchase_ratio": one.purchases,
            "satisfaction_ratio": one.satisfaction, "coverage_ratio": one.coverage,
            "diversity_ratio": one.diversity, "exploration_ratio": one.exploration,
        }  # fmt: skip
        for name, value in values.items():
            if value is not None and math.isfinite(value):
                found[f"recloop_policy_{name}"][key] = float(value)
    for held in held_against(expected(engine), figures):
        labels = (("act", held.act), ("policy", held.policy))
        found["recloop_user_model_error"][labels] = held.error
        found["recloop_user_model_expected_ratio"][labels] = held.expected


def _note_ages(found: dict[str, Values], engine: Engine, now: int) -> None:
    day = now - DAY_US
    with engine.connect() as connection:
        shown = connection.execute(select(func.max(impressions.c.seq))).scalar()
        newest = select(impressions.c.ts).where(impressions.c.seq == shown)
        seen = connection.execute(newest).scalar()
        last = connection.execute(select(func.max(events.c.seq))).scalar() or 0
        recent = select(func.count(), func.max(events.c.ts)).where(events.c.seq > last - NEWEST)
        acts = connection.execute(recent.where(events.c.ts > day)).one()
        acted = acts[1] or connection.execute(select(events.c.ts).where(events.c.seq == last)).scalar()
        refused = select(func.sum(quarantine.c.seen)).where(quarantine.c.ts > day)
        bad = connection.execute(refused).scalar() or 0
    for name, ts in (("data", seen), ("feedback", acted)):
        if ts is not None:
            found[f"recloop_{name}_age_seconds"][()] = (now - ts) / 1e6
    found["recloop_quarantined_ratio"][()] = bad / (bad + acts[0]) if bad else 0.0


def _note_flows(found: dict[str, Values], engine: Engine, now: int) -> None:
    for flow, runs in flow_runs(engine).items():
        key = (("flow", flow),)
        found["recloop_flow_failures"][key] = float(runs.failures)
        found["recloop_flow_runs"][key] = float(runs.ended)
        found["recloop_flow_seconds"][key] = runs.seconds
        if runs.succeeded is not None:
            found["recloop_flow_age_seconds"][key] = (now - runs.succeeded) / 1e6
            if flow == "retrain":
                found["recloop_training_age_seconds"][()] = (now - runs.succeeded) / 1e6

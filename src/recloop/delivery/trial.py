"""The A/B test between a canary's last step and the switch: the challenger has to win it.

The number of people follows from the smallest lift worth having. The primary metric is tested at a few
planned looks (group-sequential, with futility), guardrails are watched all the time, arms that are not as
large as they should be block every verdict, and what people did before takes variance away
(``recloop.experiments``).
Compared are those who had the champion until the test began.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine, and_, func, select

from recloop.delivery.gates import Outcome, Verdict
from recloop.delivery.records import Rollout, Step, looks_of, salt_of, step_of
from recloop.delivery.wording import words
from recloop.experiments import place
from recloop.experiments.catalogue import Experiment, Look, Standing
from recloop.experiments.metrics import baseline, measure, metric_named
from recloop.experiments.plan import Assumptions, plan
from recloop.experiments.report import judge
from recloop.experiments.verdict import Language, sentences
from recloop.settings.params import DeliveryParams, RewardParams
from recloop.store.engine import insert_or_ignore
from recloop.store.tables import exposures, impressions

ALPHA, POWER = 0.05, 0.8
BASELINE_DAYS = 28.0
LANGUAGES: tuple[Language, ...] = ("en", "ko")
OUTCOMES: Mapping[str, Outcome] = {
    "win": "pass",
    "lose": "fail",
    "no_difference": "fail",
    "harmed": "fail",
    "keep_going": "no-data",
    "blocked": "no-data",
}


def planned(engine: Engine, params: DeliveryParams, reward: RewardParams) -> dict[str, Any]:
    """How many people the test needs, from how the metric stands now; what it is written down with.

    Raises:
        ValueError: the metric is not known, or too few people came lately to plan by.
    """
    found = baseline(engine, metric_named(params.ab_metric), reward, BASELINE_DAYS)
    share = (params.ab_share - params.canary_share) / (1 - params.canary_share)
    given = Assumptions(found.mean, found.sd, found.per_day, share, ALPHA, POWER, params.ab_looks)
    wanted = plan(given, params.ab_effect)
    return {
        "metric": params.ab_metric,
        "guardrails": [name for name in params.guardrails if name != params.ab_metric],
        "people": wanted.people,
        "effect": wanted.effect,
        "looks": params.ab_looks,
        "mean": found.mean,
        "sd": found.sd,
        "days": wanted.days,
    }


def progress(engine: Engine, rollout_id: int) -> int:
    """How many people have met the test so far."""
    query = select(func.count()).where(exposures.c.experiment == salt_of(rollout_id))
    with engine.connect() as connection:
        return connection.execute(query).scalar_one()


def trial(engine: Engine, rollout: Rollout, reward: RewardParams) -> Verdict:
    """What the test says now: pass on a win, fail on anything else that is final, with its sentence.

    A look that was due is in ``figures["look"]``, to be noted before anything is done about it: what it said
    cannot be unsaid.
    """
    step = step_of(engine, rollout.id)
    if step is None or step.plan is None:
        return Verdict("ab", "no-data", words("no_test", rollout=rollout.id))
    standing = _standing(engine, rollout, step)
    people = _expose(engine, rollout.id, step)
    samples = {
        name: measure(engine, metric_named(name), reward, standing.experiment.name)
        for name in standing.experiment.metrics
    }
    found, look = judge(standing, people, samples)
    outcome = found.outcomes["challenger"]
    gap = found.lines[0].gap
    figures = {
        "people": sum(people.values()),
        "planned": found.planned,
        **{f"people_{arm}": number for arm, number in people.items()},
        "sample_ratio_p": found.ratio_p,
        "champion": gap.control,
        "challenger": gap.treatment,
        "difference": gap.difference,
        "low": gap.low,
        "high": gap.high,
        "next_look": found.next_look,
        "hurt": list(found.hurt["challenger"]),
        "ko": sentences(found, "ko")["challenger"],
        "look": look.model_dump() if look else None,
    }
    finite = {
        name: None if isinstance(x, float) and not abs(x) < float("inf") else x for name, x in figures.items()
    }
    texts = {language: sentences(found, language)["challenger"].removesuffix(".") for language in LANGUAGES}
    why = words("experiment", **texts)
    return Verdict("ab", OUTCOMES[outcome], why, finite)


def _standing(engine: Engine, rollout: Rollout, step: Step) -> Standing:
    told: Mapping[str, Any] = step.plan or {}
    share = (step.share - step.before) / (1 - step.before)
    experiment = Experiment(
        name=salt_of(rollout.id),
        arms={"champion": 1 - share, "challenger": share},
        primary=told["metric"],
        guardrails=tuple(told["guardrails"]),
        people=told["people"],
        looks=told["looks"],
        alpha=ALPHA,
        power=POWER,
        effect=told["effect"],
    )
    return Standing(
        experiment=experiment,
        salt=salt_of(rollout.id),
        state="running",
        looks=tuple(Look(**look) for look in looks_of(engine, rollout.id)),
        who="",
        why="",
        ts=step.ts,
        ended=None,
    )


def _expose(engine: Engine, rollout_id: int, step: Step) -> dict[str, int]:
    """Note who came since the test began and had the champion until then; people by arm, as assigned."""
    name = salt_of(rollout_id)
    noted = and_(exposures.c.experiment == name, exposures.c.user_id == impressions.c.user_id)
    query = (
        select(impressions.c.user_id, func.min(impressions.c.ts).label("ts"))
        .outerjoin_from(impressions, exposures, noted)
        .where(impressions.c.seq > step.since, impressions.c.position == 0, exposures.c.user_id.is_(None))
        .group_by(impressions.c.user_id)
    )
    counts = select(exposures.c.arm, func.count()).where(exposures.c.experiment == name)
    with engine.begin() as connection:
        rows = []
        for user_id, ts in connection.execute(query).all():
            here = place(user_id, name)
            if here >= step.before:
                arm = "challenger" if here < step.share else "champion"
                rows.append({"experiment": name, "user_id": user_id, "arm": arm, "ts": ts})
        insert_or_ignore(connection, exposures, rows)
        found: dict[str, int] = dict(connection.execute(counts.group_by(exposures.c.arm)).tuples().all())
    return {arm: found.get(arm, 0) for arm in ("champion", "challenger")}

"""Metrics of an experiment: what people did since they met it, and before.

Another metric is a line in ``METRICS``.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sqlalchemy import ColumnElement, Engine, Select, and_, case, func, literal, select

from recloop.experiments.cuped import Covariate
from recloop.experiments.difference import Clusters
from recloop.schema import now_us
from recloop.settings.params import RewardParams
from recloop.store.consent import stays
from recloop.store.tables import events, exposures, impressions

PLAIN = ("view", "click", "cart", "purchase", "dismiss")  # kinds whose worth does not depend on the value


def worth_of(reward: RewardParams) -> ColumnElement:
    """The reward of an event's row; a rating with enough stars is worth a click, a dwell nothing."""
    rating = case((events.c.value >= reward.rating_positive, reward.click), else_=0.0)
    plain = [(events.c.kind == kind, getattr(reward, kind)) for kind in PLAIN]
    return case(*plain, (events.c.kind == "rating", rating), else_=0.0)


def _number_of(kind: str) -> Callable[[RewardParams], ColumnElement]:
    return lambda _: case((events.c.kind == kind, 1.0), else_=0.0)


def _price_paid(_: RewardParams) -> ColumnElement:
    return case((events.c.kind == "purchase", events.c.value), else_=0.0)


@dataclass(frozen=True)
class Metric:
    """A sum over a person's events, per request or per person.

    Attributes:
        name: as the commands know it.
        titles: what people call it, by language.
        worth: what an event's row adds, given the rewards of params.yaml; None: requests are counted.
        per: what the sum is divided by, over the arm.
        better: which direction is.
        once: whether only matters that the sum is above zero (a conversion).
    """

    name: str
    titles: Mapping[str, str]
    worth: Callable[[RewardParams], ColumnElement] | None
    per: Literal["request", "person"]
    better: Literal["higher", "lower"] = "higher"
    once: bool = False


def _titles(en: str, ko: str) -> Mapping[str, str]:
    return {"en": en, "ko": ko}


METRICS = {
    metric.name: metric
    for metric in (
        Metric("reward_per_request", _titles("reward per request", "요청당 보상"), worth_of, "request"),
        Metric(
            "clicks_per_request", _titles("clicks per request", "요청당 클릭"), _number_of("click"), "request"
        ),
        Metric(
            "dismissals_per_request",
            _titles("dismissals per request", "요청당 '관심 없음'"),
            _number_of("dismiss"),
            "request",
            better="lower",
        ),
        Metric("requests_per_person", _titles("requests per person", "1인당 요청"), None, "person"),
        Metric(
            "purchases_per_person",
            _titles("purchases per person", "1인당 구매"),
            _number_of("purchase"),
            "person",
        ),
        Metric(
            "buyers", _titles("share of buyers", "구매자 비율"), _number_of("purchase"), "person", once=True
        ),
        Metric("revenue_per_person", _titles("revenue per person", "1인당 매출"), _price_paid, "person"),
    )
}


@dataclass(frozen=True)
class Sample:
    """One arm: what people did since exposure, and the same sum before it."""

    people: Clusters
    before: Covariate


def metric_named(name: str) -> Metric:
    """The metric of that name.

    Raises:
        ValueError: there is none.
    """
    if name not in METRICS:
        raise ValueError(f"{name!r} is no metric; there are: {', '.join(METRICS)}")
    return METRICS[name]


def measure(
    engine: Engine, metric: Metric, reward: RewardParams, experiment: str, until: int | None = None
) -> dict[str, Sample]:
    """The metric by arm, of those who were exposed; who has made no request yet is left out of ratios.

    Who has withdrawn ``service`` is in none of it.

    Args:
        engine: the store.
        metric: what to measure.
        reward: what an act is worth.
        experiment: its name.
        until: µs; later acts do not count.
    """
    columns = (exposures.c.user_id, exposures.c.arm, exposures.c.ts)
    exposed = select(*columns).where(exposures.c.experiment == experiment, stays(exposures.c.user_id))
    return _by_arm(engine, exposed, metric, reward, until)


@dataclass(frozen=True)
class Baseline:
    """How things stand without an experiment: what a plan needs.

    Attributes:
        mean: of the metric.
        sd: standard deviation over people of the metric's linear values.
        people: who came within the days that were looked at.
        per_day: people who came for the first time within them, per day.
    """

    mean: float
    sd: float
    people: int
    per_day: float


def baseline(engine: Engine, metric: Metric, reward: RewardParams, days: float) -> Baseline:
    """The metric over the store's newest ``days``, as if everybody were exposed when they first came.

    Raises:
        ValueError: fewer than two people came.
    """
    with engine.connect() as connection:
        newest = connection.execute(select(func.max(impressions.c.ts))).scalar() or now_us()
    since = newest - int(days * 86_400_000_000)
    came = (
        select(impressions.c.user_id, literal("all").label("arm"), func.min(impressions.c.ts).label("ts"))
        .where(impressions.c.ts > since, stays(impressions.c.user_id))
        .group_by(impressions.c.user_id)
    )
    found = _by_arm(engine, came, metric, reward, None)
    people = len(found["all"].people.counts) if found else 0
    if people < 2:
        raise ValueError(f"{people} people came within {days:g} days: give the baseline by hand")
    values = found["all"].people
    return Baseline(values.mean, float(values.linear.std(ddof=1)), people, people / days)


def _by_arm(
    engine: Engine, exposed: Select, metric: Metric, reward: RewardParams, until: int | None
) -> dict[str, Sample]:
    rows: dict[str, list[Any]] = {}
    with engine.connect() as connection:
        for arm, *figures in connection.execute(_query(exposed, metric, reward, until)):
            rows.setdefault(arm, []).append(figures)
    return {arm: sample for arm, found in rows.items() for sample in _sample(np.array(found, float), metric)}


def _sample(figures: np.ndarray, metric: Metric) -> Iterator[Sample]:
    """From rows of ts, total, requests, total before, last moment before."""
    if metric.per == "request":
        figures = figures[figures[:, 2] > 0]
    if not len(figures):
        return
    exposed, total, asked, before, last = figures.T
    if metric.once:
        total, before = (total > 0).astype(float), (before > 0).astype(float)
    counts = asked if metric.per == "request" else np.ones(len(total))
    covariate = Covariate(before, last.astype(np.int64), exposed.astype(np.int64))
    yield Sample(Clusters(total, counts), covariate)


def _query(exposed: Select, metric: Metric, reward: RewardParams, until: int | None) -> Select:
    who = exposed.subquery()
    value = literal(1.0) if metric.worth is None else metric.worth(reward)
    table = impressions if metric.worth is None else events
    acted = _sums(who, table, value, until).subquery()
    asked = _sums(who, impressions, literal(1.0), until).subquery()
    return (
        select(
            who.c.arm,
            who.c.ts,
            func.coalesce(acted.c.after, 0.0),
            func.coalesce(asked.c.after, 0.0),
            func.coalesce(acted.c.before, 0.0),
            func.coalesce(acted.c.last, -1),
        )
        .select_from(
            who.outerjoin(acted, acted.c.user_id == who.c.user_id).outerjoin(
                asked, asked.c.user_id == who.c.user_id
            )
        )
        .order_by(who.c.arm, who.c.user_id)
    )


def _sums(who: Any, table: Any, value: ColumnElement, until: int | None) -> Select:
    """Per person: what the rows add up to from exposure on and before it, and the last moment before."""
    own = table.c.user_id == who.c.user_id
    if table is impressions:
        own = and_(own, impressions.c.position == 0, ~impressions.c.partial)
    if until is not None:
        own = and_(own, table.c.ts <= until)
    early = table.c.ts < who.c.ts
    return (
        select(
            table.c.user_id,
            func.sum(case((early, 0.0), else_=value)).label("after"),
            func.sum(case((early, value), else_=0.0)).label("before"),
            func.max(case((early, table.c.ts), else_=-1)).label("last"),
        )
        .select_from(who.join(table, own))
        .group_by(table.c.user_id)  # by the person's, SQLite would read all impressions for each
    )

"""What people get out of each policy, over the newest impressions: the cost does not grow with the log."""

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Engine, Select, case, distinct, func, select

from recloop.delivery.outcomes import FALLBACK, several
from recloop.experiments.metrics import worth_of
from recloop.settings.params import Params
from recloop.store.tables import events, impressions, items

RECENT = 100_000  # impressions


@dataclass(frozen=True)
class PolicyFigures:
    """One policy's; a ratio is None where nothing was there to be counted.

    Attributes:
        requests: slates that were shown whole.
        reward: per request; ``low`` and ``high`` bound it with 95 %, clustered by person, infinite below two.
        clicks: per request.
        purchases: per request.
        satisfaction: good ratings over ratings and dismissals.
        coverage: different items shown, over those that can be.
        diversity: mean over slates of different categories per item.
        exploration: mean chance that the uniform share of the sampling drew a pick, ``(e / left) / p`` for a
            pick with propensity p of ``left`` items (Bayes; its mean is e where the log is right). None
            of the fallback, which never explores.
        people_clicks: bounds of ``clicks`` with 99.9 %, clustered by person.
        people_purchases: of ``purchases``.
    """

    requests: int
    reward: float
    low: float
    high: float
    clicks: float
    purchases: float
    satisfaction: float | None
    coverage: float | None
    diversity: float | None
    exploration: float | None
    people_clicks: tuple[float, float]
    people_purchases: tuple[float, float]


def policies(engine: Engine, params: Params) -> dict[str, PolicyFigures]:
    """By policy, of the newest ``RECENT`` impressions of customers."""
    with engine.connect() as connection:
        last = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
        since = max(0, last - RECENT)
        offers = select(func.count()).select_from(items).where(items.c.available, ~items.c.removed)
        known = connection.execute(offers).scalar_one()
        picks = _picks(connection, since, params.serving.exploration, known)
        diversity = dict(connection.execute(_diversity(since)).tuples().all())
    good = (events.c.kind == "rating") & (events.c.value >= params.reward.rating_positive)
    worths = [
        worth_of(params.reward), _is("click"), _is("purchase"),
        case((good, 1.0), else_=0.0), _is("rating") + _is("dismiss"),
    ]  # fmt: skip
    found = {}
    for policy, sums in several(engine, worths, since).items():
        reward, clicks, purchases, liked, opinions = (one.people for one in sums)
        shown, explored, rated = picks[policy]
        low, high = reward.interval()
        found[policy] = PolicyFigures(
            requests=sums[0].requests,
            reward=reward.mean,
            low=low,
            high=high,
            clicks=clicks.mean,
            purchases=purchases.mean,
            satisfaction=float(liked.totals.sum() / all_) if (all_ := opinions.totals.sum()) else None,
            coverage=shown / known if known else None,
            diversity=diversity.get(policy),
            exploration=explored / rated if rated and policy != FALLBACK else None,
            people_clicks=clicks.interval(0.999),
            people_purchases=purchases.interval(0.999),
        )
    return found


def _customers(since: int) -> ColumnElement[bool]:
    return (impressions.c.seq > since) & ~impressions.c.partial & impressions.c.traffic.is_(None)


def _is(kind: str) -> ColumnElement:
    return case((events.c.kind == kind, 1.0), else_=0.0)


def _picks(connection: Connection, since: int, exploration: float, known: int) -> dict[str, tuple]:
    """By policy: different items, the summed chance of exploration, and the picks that have a propensity."""
    left = known - impressions.c.position
    chance = exploration / case((left > 1, left), else_=1) / impressions.c.propensity
    query = (
        select(
            impressions.c.policy,
            func.count(distinct(impressions.c.item_id)),
            func.sum(case((chance > 1, 1.0), else_=chance)),
            func.count(impressions.c.propensity),
        )
        .where(_customers(since))
        .group_by(impressions.c.policy)
    )
    return {policy: tuple(rest) for policy, *rest in connection.execute(query)}


def _diversity(since: int) -> Select:
    slates = (
        select(
            impressions.c.policy,
            (1.0 * func.count(distinct(items.c.category)) / func.count()).label("share"),
        )
        .join(items, items.c.item_id == impressions.c.item_id)
        .where(_customers(since))
        .group_by(impressions.c.policy, impressions.c.request_id)
        .subquery()
    )
    return select(slates.c.policy, func.avg(slates.c.share)).group_by(slates.c.policy)

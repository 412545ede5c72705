"""Whether the arms get the same kind of requests, and how far their answers lie apart."""

from collections import Counter
from collections.abc import Callable, Iterator

from sqlalchemy import Engine, func, select

from recloop.experiments.drift import Drift, categories_drift, counts_drift, numbers_drift
from recloop.store.tables import impressions, items, users


def input_shifts(
    engine: Engine, champion: str, challenger: str, since: int, who: Callable[[str], bool]
) -> tuple[Drift, ...]:
    """By feature, how far the people ``who`` of both policies' requests with ``seq > since`` differ.

    Each person counts once, with the first device of the alphabet that was used.
    """
    profile = (users.c.age, users.c.sex, users.c.region)
    query = (
        select(
            impressions.c.policy,
            impressions.c.user_id,
            *profile,
            func.min(impressions.c.device).label("device"),
        )
        .join(users, users.c.user_id == impressions.c.user_id)
        .where(impressions.c.seq > since, impressions.c.position == 0)
        .where(impressions.c.policy.in_([champion, challenger]))
        .group_by(impressions.c.policy, impressions.c.user_id, *profile)
    )
    with engine.connect() as connection:
        rows = [row for row in connection.execute(query).mappings() if who(row["user_id"])]
    arms = [[row for row in rows if row["policy"] == name] for name in (champion, challenger)]

    def found() -> Iterator[Drift | None]:
        for name in ("device", "sex", "region"):
            yield categories_drift(name, *([str(row[name] or "unknown") for row in arm] for arm in arms))
        ages = ([float(row["age"]) for row in arm if row["age"] is not None] for arm in arms)
        yield numbers_drift("age", *ages)

    return tuple(drift for drift in found() if drift is not None)


def action_shift(engine: Engine, champion: str, challenger: str, since: int, matters: float) -> Drift | None:
    """How far the categories of the items at the first position differ between both policies' answers.

    ``matters`` is the population stability index from which on it counts. None where one has no answers.
    """
    category = func.coalesce(items.c.category, "unknown")
    query = (
        select(impressions.c.policy, category, func.count())
        .outerjoin_from(impressions, items, items.c.item_id == impressions.c.item_id)
        .where(impressions.c.seq > since, impressions.c.position == 0)
        .where(impressions.c.policy.in_([champion, challenger]))
        .group_by(impressions.c.policy, category)
    )
    counts: dict[str, Counter[str]] = {champion: Counter(), challenger: Counter()}
    with engine.connect() as connection:
        for policy, name, number in connection.execute(query):
            counts[policy][name] = number
    return counts_drift("category", counts[champion], counts[challenger], matters)

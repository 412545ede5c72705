"""Whether other people come than those whom the policy learnt from, and see other things: by feature."""

from collections import Counter
from pathlib import Path

from sqlalchemy import ColumnElement, Engine, Select, func, select

from recloop.experiments.drift import Drift, counts_drift, numbers_drift
from recloop.store.snapshot import Watermark
from recloop.store.tables import impressions, items, users

WINDOW = 50_000  # impressions before the last training, and as many of the newest since


def drifts(engine: Engine, mark: Path) -> list[Drift] | None:
    """By feature, most drifted first; None before the first training. ``mark``: the watermark's file."""
    try:
        trained = Watermark.load(mark).impressions
    except (OSError, ValueError, TypeError):
        return None
    with engine.connect() as connection:
        last = connection.execute(select(func.max(impressions.c.seq))).scalar() or 0
    seq = impressions.c.seq
    old = (seq > trained - WINDOW) & (seq <= trained)
    new = seq > max(trained, last - WINDOW)
    names: tuple[tuple[str, ColumnElement], ...] = (
        ("device", impressions.c.device),
        ("sex", func.coalesce(users.c.sex, "unknown")),
        ("region", func.coalesce(users.c.region, "unknown")),
    )
    found = [
        counts_drift(name, _people(engine, what, old), _people(engine, what, new)) for name, what in names
    ]
    found.append(numbers_drift("age", _ages(engine, old), _ages(engine, new)))
    found.append(counts_drift("category", _shown(engine, old), _shown(engine, new)))
    return sorted(
        (one for one in found if one is not None), key=lambda one: one.threshold / (one.distance or 1e-9)
    )


def _people(engine: Engine, column: ColumnElement, part: ColumnElement[bool]) -> Counter[str]:
    """How many people have each value; who used two devices counts for both."""
    mine = select(column.label("value"), impressions.c.user_id).distinct()
    mine = mine.join(users, users.c.user_id == impressions.c.user_id)
    each = mine.where(part, impressions.c.position == 0).subquery()
    return _counts(engine, select(each.c.value, func.count()).group_by(each.c.value))


def _shown(engine: Engine, part: ColumnElement[bool]) -> Counter[str]:
    """How often items of each category were shown."""
    query = select(items.c.category, func.count()).join(items, items.c.item_id == impressions.c.item_id)
    return _counts(engine, query.select_from(impressions).where(part).group_by(items.c.category))


def _ages(engine: Engine, part: ColumnElement[bool]) -> list[float]:
    query = select(users.c.age, users.c.user_id).join(users, users.c.user_id == impressions.c.user_id)
    mine = query.select_from(impressions).where(part, impressions.c.position == 0, users.c.age.is_not(None))
    with engine.connect() as connection:
        return [float(age) for age, _ in connection.execute(mine.distinct())]


def _counts(engine: Engine, query: Select) -> Counter[str]:
    with engine.connect() as connection:
        return Counter({str(value): number for value, number in connection.execute(query)})

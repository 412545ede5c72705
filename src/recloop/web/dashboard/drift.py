"""Whether other people come than before, and see other things: by feature."""

from collections import Counter
from pathlib import Path

from sqlalchemy import ColumnElement, Engine, Select, func, select

from recloop.experiments.drift import Drift, counts_drift, numbers_drift
from recloop.schema import now_us
from recloop.store.snapshot import Watermark
from recloop.store.tables import impressions, items, users
from recloop.watch.digest import KEPT_US, digested
from recloop.watch.season import Found, seasonal

WINDOW = 50_000  # impressions before the last training, and as many of the newest since


def drifts(engine: Engine, mark: Path) -> list[Found]:
    """What differs from before the last training, and of the last hour from the hours that are like it.

    Most drifted first. ``mark``: the file of the watermark of the last training.
    """
    now = now_us()
    found = seasonal(digested(engine, now - KEPT_US, now), now)
    try:
        trained = Watermark.load(mark).impressions
    except (OSError, ValueError, TypeError):
        trained = None
    if trained is not None:
        found += [Found("inputs", "", "training", one) for one in _since(engine, trained)]
    return sorted(found, key=lambda one: one.drift.threshold / (one.drift.distance or 1e-9))


def _since(engine: Engine, trained: int) -> list[Drift]:
    """By feature; ``trained``: the last impression that was learnt from."""
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
    return [one for one in found if one is not None]


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

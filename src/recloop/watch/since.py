"""Whether other people come since the last training than before, and whether a policy shows other things.

Both sides have as many impressions, and each person counts once on either, with the first request there: a
side that lasted longer would have more of those who come rarely, who may be other people. What a policy does
is compared with what the same one did: a promotion is no drift.
"""

from collections import Counter

from sqlalchemy import Connection, Engine, Row, func, select

from recloop.experiments.drift import Drift, counts_drift, mix_drift, steps_drift
from recloop.store.tables import impressions, items, users
from recloop.watch.season import CHANCE, Found

MOST = 300_000  # impressions of a side


def since_training(engine: Engine, trained: int) -> list[Found]:
    """By feature, where either side has somebody; ``trained``: the last impression that was learnt from."""
    seq = impressions.c.seq
    with engine.connect() as connection:
        last = connection.execute(select(func.max(seq))).scalar() or 0
        many = min(last - trained, MOST)
        before = _people(connection, trained - many, trained)
        since = _people(connection, last - many, last)

    def found(kind: str, policy: str, drift: Drift | None) -> list[Found]:
        return [] if drift is None else [Found(kind, policy, "training", drift)]

    all_of = []
    for name in ("device", "sex", "region"):
        all_of += found("inputs", "", counts_drift(name, _by(before, name), _by(since, name), chance=CHANCE))
    all_of += found("inputs", "", steps_drift("age", _by(before, "age"), _by(since, "age"), chance=CHANCE))
    for policy in sorted({row.policy for row in before} & {row.policy for row in since}):
        one, other = (
            _by([row for row in side if row.policy == policy], "category") for side in (before, since)
        )
        all_of += found("actions", policy, mix_drift("category", one, other, chance=CHANCE))
    return all_of


def _people(connection: Connection, after: int, until: int) -> list[Row]:
    """Whoever came, counted by who they are, and by what their first request showed first."""
    shown = impressions.c
    first = (
        select(func.min(shown.seq).label("seq"))
        .where(shown.seq > after, shown.seq <= until, shown.position == 0)
        .where(~shown.partial, shown.traffic.is_(None))
        .group_by(shown.user_id)
        .subquery()
    )
    said = (
        shown.policy,
        shown.device,
        func.coalesce(users.c.sex, "unknown").label("sex"),
        func.coalesce(users.c.region, "unknown").label("region"),
        users.c.age,
        items.c.category,
    )
    query = (
        select(*said, func.count().label("people"))
        .select_from(first)
        .join(impressions, shown.seq == first.c.seq)
        .join(users, users.c.user_id == shown.user_id)
        .outerjoin(items, items.c.item_id == shown.item_id)
        .group_by(*said)
    )
    return list(connection.execute(query).all())


def _by(rows: list[Row], name: str) -> Counter[str]:
    """People by a feature's value; who has none is left out."""
    found: Counter[str] = Counter()
    for row in rows:
        value = row._mapping[name]
        if value is not None:
            found[str(value)] += row.people
    return found

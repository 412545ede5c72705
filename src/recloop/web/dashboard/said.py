"""What people said: what they dismissed, how they rated, and what their profiles answer."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Engine, func, select

from recloop.store.tables import events, items, users

RECENT = 50_000  # acts that are looked at
PEOPLE = 5_000  # and profiles
SHOWN = 8
TOGETHER = 3  # people who have to give an answer before it is shown: nobody is to be known by theirs


@dataclass(frozen=True)
class Said:
    """Of the newest acts and people.

    Attributes:
        acts: by kind.
        dismissed: titles, how often, and how often their items were seen in the same acts.
        stars: how many ratings by number of stars.
        answers: per question the answers and how many gave them, and how many gave others.
    """

    acts: dict[str, int]
    dismissed: list[tuple[str, int, int]]
    stars: list[tuple[float, int]]
    answers: list[tuple[str, list[tuple[str, int]], int]]


def said(engine: Engine) -> Said:
    """Read the newest acts and people; the number of both is bounded."""
    with engine.connect() as connection:
        last = connection.execute(select(func.max(events.c.seq))).scalar() or 0
        mine = (events.c.seq > last - RECENT) & events.c.traffic.is_(None)
        kinds = select(events.c.kind, func.count()).where(mine).group_by(events.c.kind)
        acts: dict[str, int] = dict(connection.execute(kinds).tuples().all())
        number = func.count().label("number")
        refused = select(events.c.item_id, number).where(mine, events.c.kind == "dismiss")
        top = connection.execute(
            refused.group_by(events.c.item_id).order_by(number.desc(), events.c.item_id).limit(SHOWN)
        ).all()
        names = [row.item_id for row in top]
        titles = dict(
            connection.execute(select(items.c.item_id, items.c.title).where(items.c.item_id.in_(names)))
            .tuples()
            .all()
        )
        all_acts = select(events.c.item_id, func.count()).where(mine, events.c.item_id.in_(names))
        totals: dict[str, int] = dict(connection.execute(all_acts.group_by(events.c.item_id)).tuples().all())
        rated = select(events.c.value, func.count()).where(mine, events.c.kind == "rating")
        stars = connection.execute(rated.group_by(events.c.value).order_by(events.c.value.desc()).limit(10))
        known = select(users.c.attributes).where(users.c.attributes != "{}").limit(PEOPLE)
        profiles = connection.execute(known).scalars().all()
        return Said(
            dict(sorted(acts.items(), key=lambda pair: -pair[1])),
            [(titles.get(row.item_id, row.item_id), row.number, totals[row.item_id]) for row in top],
            list(stars.tuples().all()),
            answers(profiles),
        )


def answers(profiles: Iterable[str]) -> list[tuple[str, list[tuple[str, int]], int]]:
    """Per question what at least ``TOGETHER`` people answered, and how many answered otherwise."""
    found: dict[str, Counter[str]] = {}
    for text in profiles:
        for question, answer in json.loads(text).items():
            found.setdefault(question, Counter())[str(answer)] += 1
    told = []
    for question, counts in sorted(found.items(), key=lambda pair: -pair[1].total())[:SHOWN]:
        common = [(answer, n) for answer, n in counts.most_common(SHOWN) if n >= TOGETHER]
        told.append((question, common, counts.total() - sum(n for _, n in common)))
    return told

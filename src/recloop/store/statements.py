"""Words on consent from elsewhere, many at once: an older word never undoes what a person said since."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, Engine, select, text

from recloop.schema import now_us
from recloop.store.engine import in_transaction, take_turn
from recloop.store.tables import consents

AT_ONCE = 5000


@dataclass(frozen=True)
class Statement:
    """What a person said of a purpose, to which version of its terms; ``ts`` in µs since 1970, None: now."""

    user_id: str
    purpose: str
    granted: bool
    version: int
    ts: int | None = None


class Heard(StrEnum):
    """What became of a statement."""

    NEW = "new"
    SAME = "same"
    OUTDATED = "outdated"


def add_statements(engine: Engine, said: Sequence[Statement]) -> list[Heard]:
    """Record statements in one transaction, in the order of their time; per statement what became of it.

    One that is recorded already is ``SAME``, and one without a time that says what holds. One that is older
    than the person's newest word on the purpose is ``OUTDATED`` and not recorded: the last row would hold.
    """

    def add(connection: Connection) -> list[Heard]:
        take_turn(connection)  # nobody withdraws between the look and the word
        if connection.dialect.name == "postgresql":
            connection.execute(text("LOCK TABLE consents IN SHARE ROW EXCLUSIVE MODE"))
        known, newest = _recorded(connection, sorted({one.user_id for one in said}))
        heard, rows, now = [Heard.SAME] * len(said), [], now_us()
        moments = [now if one.ts is None else one.ts for one in said]
        for place in sorted(range(len(said)), key=moments.__getitem__):
            one, ts = said[place], moments[place]
            what, whose = (one.granted, one.version), (one.user_id, one.purpose)
            before = newest.get(whose)
            if (*whose, *what, ts) in known or (one.ts is None and before and before[1:] == what):
                continue
            if before and before[0] > ts:
                heard[place] = Heard.OUTDATED
                continue
            heard[place], newest[whose] = Heard.NEW, (ts, *what)
            known.add((*whose, *what, ts))
            rows.append(
                {"user_id": one.user_id, "purpose": one.purpose, "granted": one.granted}
                | {"version": one.version, "ts": ts}
            )
        if rows:
            connection.execute(consents.insert(), rows)
        return heard

    return in_transaction(engine, add) if said else []


def _recorded(
    connection: Connection, people: Sequence[str]
) -> tuple[set[tuple], dict[tuple[str, str], tuple[int, bool, int]]]:
    """All words of these people; and by person and purpose the time and content of the one that holds."""
    known, newest = set(), {}
    for start in range(0, len(people), AT_ONCE):
        query = select(consents).where(consents.c.user_id.in_(people[start : start + AT_ONCE]))
        for row in connection.execute(query.order_by(consents.c.id)):
            known.add((row.user_id, row.purpose, row.granted, row.version, row.ts))
            newest[row.user_id, row.purpose] = (row.ts, row.granted, row.version)
    return known, newest

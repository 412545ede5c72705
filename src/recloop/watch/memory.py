"""What one process has added up, so that its next look reads only what has come since.

An act counts with the impression of the request and item that it names, whichever of both was read first. The
newest rows are read again by every look, since on PostgreSQL an older number can become visible later; and
everything once an hour, since people may have been erased.
"""

import time
from collections.abc import Sequence

import numpy as np
from sqlalchemy import Connection, Engine, Row, Select, func, select

from recloop.delivery.outcomes import per_person
from recloop.experiments import Clusters
from recloop.experiments.metrics import worth_of
from recloop.settings.params import RewardParams
from recloop.store.tables import events, impressions
from recloop.watch.season import Found
from recloop.watch.since import since_training

HELD = 5_000  # newest impressions and acts that are read again
ANEW = 3600.0  # seconds after which everything is
DRIFTS_EVERY = 600_000_000  # µs between comparisons with the last training


class Memory:
    """Of the looks of one process at one store."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[tuple, Running]] = {}
        self._drifts: tuple[int, int, list[Found]] | None = None

    def people(
        self, name: str, engine: Engine, reward: RewardParams, since: int, until: int | None
    ) -> Clusters:
        """As ``Running.people``; ``name``: of the span, which may begin and end elsewhere than at the last
        look, and is then read anew."""
        key = since, until, reward.model_dump_json()
        known, running = self._sums.get(name, (None, None))
        if running is None or known != key or time.monotonic() - running.begun > ANEW:
            running = Running(reward, since, until)
        self._sums[name] = key, running
        return running.people(engine)

    def drifts(self, engine: Engine, trained: int, now: int) -> list[Found]:
        """``since_training``, at most once in ten minutes of a training."""
        if self._drifts is None or self._drifts[0] != trained or now - self._drifts[1] >= DRIFTS_EVERY:
            self._drifts = trained, now, since_training(engine, trained)
        return self._drifts[2]


class Running:
    """Requests and reward by policy and person, over impressions with ``since < seq <= until``."""

    def __init__(self, reward: RewardParams, since: int, until: int | None) -> None:
        self._worth, self._since, self._until = worth_of(reward), since, until
        self._shown, self._acts = since, 0  # up to which rows are added up
        self._places: dict[tuple[str, str], int] = {}
        self._counts, self._totals = np.zeros(0), np.zeros(0)
        self.begun = time.monotonic()

    def people(self, engine: Engine) -> Clusters:
        """All that is there now; a person under two policies is two clusters."""
        with engine.connect() as connection:
            newest, acts = (
                connection.execute(select(func.max(table.c.seq))).scalar() or 0
                for table in (impressions, events)
            )
            until = newest if self._until is None else self._until
            self._read(connection, max(self._shown, min(until, newest - HELD)), max(self._acts, acts - HELD))
            kept = self._shown, self._acts, self._counts, self._totals
            self._read(connection, self._until, None)
        size = len(self._places)
        counts, totals = (np.pad(sums, (0, size - len(sums))) for sums in (self._counts, self._totals))
        self._shown, self._acts, self._counts, self._totals = kept
        return Clusters(totals[counts > 0], counts[counts > 0])

    def _read(self, connection: Connection, shown: int | None, acts: int | None) -> None:
        """Add what is new up to these numbers; None: all."""
        asked, earned = per_person([self._worth], self._shown, shown, acts)
        self._counts = self._added(self._counts, connection.execute(asked).all())
        self._totals = self._added(self._totals, connection.execute(earned).all())
        if self._shown > self._since:
            self._totals = self._added(self._totals, connection.execute(self._late(acts)).all())
        self._shown = self._shown if shown is None else max(self._shown, shown)
        self._acts = self._acts if acts is None else acts

    def _added(self, sums: np.ndarray, rows: Sequence[Row]) -> np.ndarray:
        """``rows``: policy, person and a number, each pair once."""
        known = self._places
        places = [known.setdefault((policy, person), len(known)) for policy, person, _ in rows]
        sums = np.pad(sums, (0, len(known) - len(sums)))
        sums[places] += [x for *_, x in rows]
        return sums

    def _late(self, acts: int | None) -> Select:
        """What acts that are new add to impressions that are not."""
        new = (events.c.seq > self._acts) & events.c.traffic.is_(None)
        if acts is not None:
            new &= events.c.seq <= acts
        what = select(events.c.request_id, events.c.item_id, self._worth.label("worth")).where(new)
        act = what.cte("act").prefix_with("MATERIALIZED")
        shown = impressions.c
        return (
            select(shown.policy, shown.user_id, func.sum(act.c.worth))
            .select_from(act)
            .join(
                impressions,
                (shown.request_id == act.c.request_id) & (shown.item_id == act.c.item_id),
            )
            .where(shown.seq + 0 > self._since, shown.seq + 0 <= self._shown)  # by request, not by number
            .where(~shown.partial, shown.traffic.is_(None))
            .group_by(shown.policy, shown.user_id)
        )

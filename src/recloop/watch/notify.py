"""From alerts to messages: one for each fault, however many symptoms it has.

What was found is kept in the store. It is told when it has lasted, is not inhibited by what caused it, was
not silenced, and nobody has it in hand; everything of a layer goes into one message.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from sqlalchemy import Connection, Engine, delete, select

from recloop.schema import now_us
from recloop.store.engine import take_turn, upsert
from recloop.store.tables import alert_states, silences
from recloop.store.tables import alerts as history
from recloop.watch.outbox import catch_up, deliver
from recloop.watch.rules import DEALT_WITH, INHIBITS, Alert
from recloop.watch.sending import NotifyError

MINUTE_US = 60_000_000
REGROUP_US = 15 * MINUTE_US  # a layer that was told of is not told of again for that long, whatever comes
REPEAT_US = 360 * MINUTE_US  # and what lasts is told of again after that long
OUTRANKS = ("serving", "objective")  # layers in which a critical alert inhibits the warnings
LABELS = "labels"  # among the figures that are kept
ALONE = "rollout"  # the layer in which each alert is a fault, and a message, of its own


@dataclass
class State:
    """An alert that was found, and what became of it.

    Attributes:
        alert: as it was found last.
        since: when it was found first, in µs since 1970.
        told: when it was sent last; None: not yet.
        muted: what it was a symptom of was there when it came: it stays so until it ends.
        acked: when somebody took it in hand.
        who: that is.
    """

    alert: Alert
    since: int
    told: int | None = None
    muted: bool = False
    acked: int | None = None
    who: str | None = None

    def lasts(self, now: int) -> bool:
        """Whether it has been there as long as its rule wants."""
        return now - self.since >= self.alert.hold * 1e6

    def quiet(self, silences: Sequence["Silence"]) -> bool:
        """Whether a silence fits."""
        return any(fnmatchcase(self.alert.name, one.pattern) for one in silences)

    def word(self, now: int, silences: Sequence["Silence"]) -> str:
        """What becomes of it, in a word or two."""
        if self.acked is not None:
            return f"{self.who} has it in hand"
        if self.muted:
            return "caused by another"
        if self.quiet(silences):
            return "silenced"
        if self.told is not None:
            return "told"
        return "to be told" if self.lasts(now) else "pending"


@dataclass(frozen=True)
class Silence:
    """Nobody is told of alerts whose name fits the pattern (``*`` and ``?``) until then, in µs since 1970."""

    pattern: str
    until: int
    who: str
    why: str


def notify(
    engine: Engine,
    alerts: Sequence[Alert],
    urls: Sequence[str],
    layers: Collection[str] | None = None,
    now: int | None = None,
) -> list[Alert]:
    """Take in what a look has found, and send what somebody has to know; returns what was not told before.

    Without addresses alerts are noted only: the dashboard shows them. What could not be sent to any counts
    as not told, so that the next look sends it; what one of several did not take is kept for that one.

    Args:
        engine: the store.
        alerts: all that holds now, of the layers that were looked at; others of these layers have ended.
        urls: Apprise addresses, such as ``mailtos://…``, ``slack://…`` or ``json://host/path``.
        layers: that were looked at; None: all.
        now: µs since 1970.

    Raises:
        NotifyError: an address is not understood, or nobody or not everybody could be told.
    """
    now = now_us() if now is None else now
    states, ended = _take_in(engine, {alert.name: alert for alert in alerts}, layers, now)
    quiet = silenced(engine, now)
    new: list[Alert] = []
    failures: list[NotifyError] = []
    for fault in sorted({_fault(state.alert) for state in states}):
        group = [state for state in states if _fault(state.alert) == fault and _speaks(state, quiet)]
        if not _due(group, now):
            continue
        try:
            deliver(engine, [state.alert for state in group], urls, now)
        except NotifyError as failure:
            failures.append(failure)
            continue
        first = [state.alert for state in group if state.told is None]
        _told(engine, group, first, now)
        new += first
    try:
        _end(engine, ended, states, urls, now)
    except NotifyError as failure:
        failures.append(failure)
    if failures:
        raise failures[0]
    if behind := catch_up(engine, urls, now):
        which = ", ".join(map(str, behind))
        raise NotifyError(f"alert address number {which} does not take messages: others do, and have them")
    return new


def raised(engine: Engine, limit: int = 20) -> list[tuple[int, Alert]]:
    """Alerts that people were told of, newest first, each with its time (µs since 1970)."""
    query = select(history).order_by(history.c.id.desc()).limit(limit)
    with engine.connect() as connection:
        rows = connection.execute(query).mappings().all()
    found = []
    for row in rows:
        figures, labels = _read(row["figures"])
        found.append((row["ts"], Alert(row["name"], row["severity"], row["summary"], figures, labels=labels)))
    return found


def standing(engine: Engine) -> list[State]:
    """What holds now, longest first, whether it was told of or not."""
    with engine.connect() as connection:
        return _states(connection)


def acknowledge(engine: Engine, pattern: str, who: str, now: int | None = None) -> list[str]:
    """Have it in hand: what fits and holds now is not sent again until it has ended; returns the names."""
    now = now_us() if now is None else now
    with engine.begin() as connection:
        take_turn(connection)
        names = [s.alert.name for s in _states(connection) if fnmatchcase(s.alert.name, pattern)]
        mine = alert_states.update().where(alert_states.c.name.in_(names))
        connection.execute(mine.values(acked=now, who=who))
    return names


def silence(engine: Engine, pattern: str, until: int, who: str, why: str, now: int | None = None) -> None:
    """Send nothing whose name fits (``*`` and ``?``) until then, in µs since 1970."""
    now = now_us() if now is None else now
    with engine.begin() as connection:
        row = {"pattern": pattern, "until": until, "who": who, "why": why, "ts": now}
        connection.execute(silences.insert().values(row))


def unsilence(engine: Engine, pattern: str, now: int | None = None) -> int:
    """End the silences of exactly this pattern; returns how many held."""
    now = now_us() if now is None else now
    mine = silences.update().where(silences.c.pattern == pattern, silences.c.until > now)
    with engine.begin() as connection:
        return connection.execute(mine.values(until=now)).rowcount


def silenced(engine: Engine, now: int) -> list[Silence]:
    """The silences that hold."""
    columns = silences.c.pattern, silences.c.until, silences.c.who, silences.c.why
    with engine.connect() as connection:
        return [Silence(*row) for row in connection.execute(select(*columns).where(silences.c.until > now))]


def _take_in(
    engine: Engine, found: dict[str, Alert], layers: Collection[str] | None, now: int
) -> tuple[list[State], list[State]]:
    """All that holds now, and what has ended of the layers."""
    with engine.begin() as connection:
        take_turn(connection)
        before = {state.alert.name: state for state in _states(connection)}
        looked = [name for name, s in before.items() if layers is None or s.alert.layer in layers]
        ended = [before.pop(name) for name in looked if name not in found]
        for name, alert in found.items():
            if name in before:
                before[name].alert = alert
            else:
                before[name] = State(alert, now)
        states = list(before.values())
        for state in states:
            state.muted |= state.told is None and _inhibited(state.alert, states)
        unsent = [state.alert.name for state in ended if state.told is None]
        connection.execute(delete(alert_states).where(alert_states.c.name.in_(unsent)))
        upsert(connection, alert_states, [_row(state) for state in states])
    return states, [state for state in ended if state.told is not None]


def _inhibited(alert: Alert, states: Iterable[State]) -> bool:
    """Whether what it may be a symptom of is there, though it may not have lasted yet."""
    return any(
        alert.layer in INHIBITS.get(other.alert.layer, ())
        or (
            alert.layer == other.alert.layer
            and alert.layer in OUTRANKS
            and (alert.severity, other.alert.severity) == ("warning", "critical")
        )
        or (
            (other.alert.layer, other.alert.severity) == (ALONE, "critical")
            and alert.layer in DEALT_WITH
            and alert.labels.get("policy") == other.alert.labels.get("policy", "")
        )
        for other in states
    )


def _fault(alert: Alert) -> str:
    """What is told of in one message."""
    return alert.name if alert.layer == ALONE else alert.layer


def _speaks(state: State, quiet: Sequence[Silence]) -> bool:
    return not state.muted and state.acked is None and not state.quiet(quiet)


def _due(group: Sequence[State], now: int) -> bool:
    """Whether there is something to tell: new and lasting, or told of long ago and still there."""
    last = max((state.told for state in group if state.told is not None), default=0)
    if now - last < REGROUP_US:
        return False
    return any(state.lasts(now) and (state.told is None or now - state.told >= REPEAT_US) for state in group)


def _told(engine: Engine, group: Sequence[State], first: Sequence[Alert], now: int) -> None:
    rows = [
        {
            "name": alert.name,
            "severity": alert.severity,
            "summary": alert.summary,
            "figures": _written(alert),
            "ts": now,
        }
        for alert in first
    ]
    names = [state.alert.name for state in group]
    with engine.begin() as connection:
        connection.execute(alert_states.update().where(alert_states.c.name.in_(names)).values(told=now))
        if rows:
            connection.execute(history.insert(), rows)


def _end(
    engine: Engine, ended: Sequence[State], states: Sequence[State], urls: Sequence[str], now: int
) -> None:
    """Say of each layer that has nothing left to say that it is over, and forget what has ended."""
    busy = {state.alert.layer for state in states if not state.muted} | {ALONE}
    over = [state.alert for state in ended if state.alert.layer not in busy]
    if over:
        deliver(engine, over, urls, now, over=True)
    with engine.begin() as connection:
        names = [state.alert.name for state in ended]
        connection.execute(delete(alert_states).where(alert_states.c.name.in_(names)))


def _states(connection: Connection) -> list[State]:
    rows = connection.execute(select(alert_states).order_by(alert_states.c.since, alert_states.c.name)).all()
    found = []
    for row in rows:
        figures, labels = _read(row.figures)
        alert = Alert(row.name, row.severity, row.summary, figures, row.layer, row.hold, labels)
        found.append(State(alert, row.since, row.told, row.muted, row.acked, row.who))
    return found


def _row(state: State) -> dict:
    alert = state.alert
    return {
        "name": alert.name, "layer": alert.layer, "severity": alert.severity, "summary": alert.summary,
        "figures": _written(alert), "hold": alert.hold, "since": state.since,
        "told": state.told, "muted": state.muted, "acked": state.acked, "who": state.who,
    }  # fmt: skip


def _written(alert: Alert) -> str:
    """Figures and labels, as one JSON object."""
    return json.dumps(dict(alert.figures) | {LABELS: dict(alert.labels)})


def _read(written: str) -> tuple[dict[str, float], dict[str, str]]:
    """Figures and labels of ``_written``; a version before it kept no labels."""
    figures = json.loads(written)
    labels = figures.pop(LABELS, {})
    return figures, labels

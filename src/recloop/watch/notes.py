"""What watching remembers from one look to the next: runs of flows, what was expected, what was asked for,
and which exporters there are."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import Connection, Engine, delete, select

from recloop.store.engine import insert_or_ignore, take_turn, upsert
from recloop.store.tables import notes

FLOW, EXPECTED, EXPORTER, RETRAIN = "flow ", "expected ", "exporter ", "retrain asked"


@dataclass(frozen=True)
class Runs:
    """Of one flow.

    Attributes:
        ended: how many runs have.
        failures: of them, since one that ended well.
        succeeded: when that was, in µs; None: never.
        seconds: that the last one took.
    """

    ended: int = 0
    failures: int = 0
    succeeded: int | None = None
    seconds: float = 0.0


def note_run(engine: Engine, flow: str, well: bool, seconds: float, now: int) -> None:
    """A run of the flow has ended."""
    with engine.begin() as connection:
        before = Runs(**_held(connection, FLOW + flow))
        after = replace(before, ended=before.ended + 1, failures=before.failures + 1, seconds=seconds)
        _write(
            connection, FLOW + flow, asdict(replace(after, failures=0, succeeded=now) if well else after), now
        )


def flow_runs(engine: Engine) -> dict[str, Runs]:
    """By flow."""
    return {name: Runs(**body) for name, body in _starting(engine, FLOW).items()}


def expect(engine: Engine, policy: str, rates: Mapping[str, float], now: int) -> None:
    """Note how often the user model told people would do an act per request, where it is not noted yet."""
    with engine.begin() as connection:
        row = {"name": EXPECTED + policy, "body": json.dumps(dict(rates)), "ts": now}
        insert_or_ignore(connection, notes, [row])


def expected(engine: Engine) -> dict[str, dict[str, float]]:
    """By policy and act, per request."""
    return _starting(engine, EXPECTED)


def note_exporter(engine: Engine, name: str, every: float, now: int) -> None:
    """An exporter has looked, and will again in ``every`` seconds."""
    row = {"name": EXPORTER + name, "body": json.dumps({"every": every}), "ts": now}
    with engine.begin() as connection:
        upsert(connection, notes, [row])


def forget_exporter(engine: Engine, name: str) -> None:
    """It has ended, as somebody wanted."""
    with engine.begin() as connection:
        connection.execute(delete(notes).where(notes.c.name == EXPORTER + name))


def exporters(engine: Engine) -> dict[str, tuple[int, float]]:
    """By name: when each looked last, in µs, and how often it does, in seconds."""
    query = select(notes.c.name, notes.c.ts, notes.c.body).where(notes.c.name.startswith(EXPORTER))
    with engine.connect() as connection:
        rows = connection.execute(query).all()
    return {row.name.removeprefix(EXPORTER): (row.ts, json.loads(row.body)["every"]) for row in rows}


def may_ask(engine: Engine, cool_down: float, now: int) -> bool:
    """Whether retraining was not asked for within ``cool_down`` seconds; then it is now. Of two one may."""
    with engine.begin() as connection:
        last = _held(connection, RETRAIN).get("ts", 0)
        if now - last < cool_down * 1e6:
            return False
        _write(connection, RETRAIN, {"ts": now}, now)
    return True


def _starting(engine: Engine, start: str) -> dict[str, Any]:
    query = select(notes.c.name, notes.c.body).where(notes.c.name.startswith(start))
    with engine.connect() as connection:
        return {name.removeprefix(start): json.loads(body) for name, body in connection.execute(query)}


def _held(connection: Connection, name: str) -> dict[str, Any]:
    """The note, which nobody else may change until the transaction ends."""
    take_turn(connection)
    insert_or_ignore(connection, notes, [{"name": name, "body": "{}", "ts": 0}])
    query = select(notes.c.body).where(notes.c.name == name).with_for_update()
    return json.loads(connection.execute(query).scalar_one())


def _write(connection: Connection, name: str, body: Mapping[str, Any], now: int) -> None:
    mine = notes.update().where(notes.c.name == name)
    connection.execute(mine.values(body=json.dumps(body), ts=now))

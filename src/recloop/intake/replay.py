"""What was quarantined and is fit now, as it came or repaired, is let in: once, however often one asks."""

import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Connection, Engine, select

from recloop.intake.feedback import OLDEST, identity, judge
from recloop.intake.server_log import NOBODY, id_of, parse_line
from recloop.intake.source import Made, renamed, to_remake
from recloop.intake.traffic import Rules
from recloop.schema import Arrival, Event, Impression, Traffic, now_us
from recloop.store import Outcome, Refused, Rows
from recloop.store.consent import SERVICE, Terms, admitted
from recloop.store.engine import in_transaction
from recloop.store.log import write_all
from recloop.store.quarantine import Held, mark_replayed
from recloop.store.tables import items

Records = tuple[list[Impression], list[Event], dict[str, Made]]


class ReplayError(ValueError):
    """A row stays in quarantine: says why and what to do."""


def replay(
    engine: Engine,
    row: Held,
    repaired: str | None = None,
    any_age: bool = False,
    terms: Terms | None = None,
    name: Callable[[str], str | None] = str,
    rules: Rules = NOBODY,
) -> int:
    """Let a row in; how many acts were new, 0 where it was let in before.

    An act without a time has that of its arrival; one without an id gets that of its row, so that a second
    replay would find it. Its age is judged as of its arrival, and not at all with ``any_age``. Where several
    acts came in one body, all are let in or none.

    Args:
        repaired: JSON of the body, or the line of a log, to be taken instead.
        terms: the version of the terms that holds, by purpose; 1 where there are none.
        name: under which name behind the door the person of an id is known; None: nobody is.
        rules: who is a colleague.

    Raises:
        ReplayError: it is still unfit, of somebody who does not let it be stored, or a kind of row that comes
            by importing its file again.
    """
    if row.replayed is not None:
        return 0
    shown, acts, made = _records(row, repaired, any_age, rules)
    people = {one.user_id for one in shown} | {one.user_id for one in acts}

    def let_in(connection: Connection) -> int:
        if not mark_replayed(connection, row.id, repaired):
            return 0
        names = admitted(connection, people, terms or {}, name)
        if len(names) < len(people):
            raise ReplayError(
                f"row {row.id} is of somebody who does not agree to the purpose {SERVICE}: it is not stored,"
                " and `recloop person tidy` deletes it in its time"
            )
        _require_items(connection, acts)
        anew = to_remake(connection, made, names)
        rows = Rows(renamed(shown, names, anew), renamed(acts, names, anew), source=row.source)
        taken = write_all(connection, [rows])[0]
        if clash := [a.event_id for a, how in zip(acts, taken.acts, strict=True) if how is Outcome.CONFLICT]:
            raise ReplayError(
                f"row {row.id}: event_id {clash[0]} is known with another body; if this is another act,"
                " repair the row: give it an event_id of its own"
            )
        return taken.acts.count(Outcome.NEW)

    return in_transaction(engine, let_in)


def _records(row: Held, repaired: str | None, any_age: bool, rules: Rules) -> Records:
    if row.kind == "log":
        return _line(row, repaired, rules)
    if row.kind not in ("event", "body"):
        raise ReplayError(
            f"row {row.id} is of the table {row.kind!r} of {row.source!r}: repair its file and import it"
            " again, which adds only what is missing"
        )
    body = _content(row, repaired)
    bodies = body if isinstance(body, list) else [body]
    several = len(bodies) > 1
    named = [_named(one, f"q{row.id}{f'.{n}' if several else ''}") for n, one in enumerate(bodies)]
    judged = judge(named, row.ts, row.source, now_us() if any_age else OLDEST)
    refused = [one for one in judged if isinstance(one, Refused)]
    if refused or not judged:
        why = refused[0].reason if refused else "it holds no act"
        raise ReplayError(
            f"row {row.id} is still unfit: {why}. Repair it: --body FILE, or - for standard input"
        )
    acts = [one for one in judged if isinstance(one, Arrival)]
    sender = row.traffic and Traffic(row.traffic)
    flags = [sender or rules.of_person(act.user_id) for act in acts]
    flagged: list[Event] = [
        act.model_copy(update={"traffic": one}) for act, one in zip(acts, flags, strict=True)
    ]
    unnamed = [one for one in named if isinstance(one, dict) and one.get("event_id") is None]
    return [], flagged, {identity(one): partial(identity, one) for one in unnamed}


def _line(row: Held, repaired: str | None, rules: Rules) -> Records:
    text = json.loads(row.body)["text"] if repaired is None else repaired.strip("\r\n")
    try:
        found = parse_line(text, rules)
    except ValueError as error:
        raise ReplayError(f"row {row.id} is still unfit: {error}") from error
    if found is None:
        raise ReplayError(f"row {row.id}: the line is about no item, so there is nothing to let in")
    shown, act = found
    return [shown] if shown else [], [act], {act.event_id: partial(id_of, text)}


def _content(row: Held, repaired: str | None) -> Any:
    text = row.body if repaired is None else repaired
    try:
        body = json.loads(text, parse_constant=_not_finite)
        if repaired is None and row.kind == "body":
            body = json.loads(body["text"], parse_constant=_not_finite)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ReplayError(
            f"row {row.id}: what {'was given' if repaired else 'came'} is no JSON of an act ({error}): give a"
            " repaired body"
        ) from error
    if isinstance(body, dict) and "cut" in body:
        raise ReplayError(f"row {row.id} was too long to be kept whole: give a repaired body")
    return body


def _not_finite(word: str) -> float:
    if math.isfinite(float(word)):
        return float(word)
    raise ValueError(f"{word} is no finite number")


def _named(body: object, name: str) -> object:
    """A body that has no id, with one that is the same at every replay."""
    if isinstance(body, dict) and body.get("event_id") is None and body.get("ts") is None:
        return body | {"event_id": name}
    return body


def _require_items(connection: Connection, acts: list[Event]) -> None:
    """Acts are on items of the catalogue, where there is one."""
    wanted = {act.item_id for act in acts}
    known = set(connection.execute(select(items.c.item_id).where(items.c.item_id.in_(wanted))).scalars())
    if wanted - known and connection.execute(select(items.c.item_id).limit(1)).first():
        raise ReplayError(f"item_id: {min(wanted - known)} is no item of the catalogue: add it first")

"""Feedback as it comes over HTTP: a JSON list in, typed events and refusals out."""

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from recloop.intake.contact import masked
from recloop.intake.reasons import Unfit, unfit
from recloop.schema import Arrival, Event, Failure, now_us
from recloop.schema.versions import VERSION, Version, parse_version
from recloop.store import Refused

DAY = 86_400_000_000  # microseconds
OLDEST = 7 * DAY  # a phone that was offline for a week may still deliver
AHEAD = 60_000_000  # a client's clock may be a minute fast
TOLERATED = 5_000_000  # between a client's clock and ours: the way of a message takes time too
MOST_EXTRA = 4096  # characters of what a later schema version adds
KNOWN = frozenset(Event.model_fields)
SAID = KNOWN | {"sent", "schema_version"}  # fields of an act as it is sent


@dataclass(frozen=True)
class TooOld(Refused):
    """An act that comes too late, unless it has come before; ``act`` is it."""

    act: Arrival | None = None


def parse_events(
    raw: Sequence[object], now: int | None = None, source: str = "http"
) -> tuple[list[Arrival], list[Refused]]:
    """Events of a JSON batch, and what is none with the field that is wrong; see ``judge``."""
    rows = judge(raw, now, source)
    good = [row for row in rows if isinstance(row, Arrival)]
    return good, [row for row in rows if isinstance(row, Refused)]


def judge(
    raw: Sequence[object], now: int | None = None, source: str = "http", oldest: int = OLDEST
) -> list[Arrival | Refused]:
    """Per row of a JSON batch the event, or why it is none.

    An absent ``ts`` is now. An absent ``event_id`` is made: from the content where ``ts`` was given,
    so that delivering the same act again is harmless; else a random one. ``sent`` is when the sender
    sent the row by its own clock: one that is more than five seconds off is corrected for, and by how much
    is kept. An act more than ``oldest`` (µs, seven days) old or more than a minute ahead of ``now`` (µs
    since 1970) is refused. ``schema_version`` is the sender's: of a later one with the same first number
    unknown fields are kept as ``extra``, else they are refused.
    """
    now = now_us() if now is None else now
    rows: list[Arrival | Refused] = []
    for body in raw:
        try:
            act = _event(body, now)
        except ValueError as error:
            found = unfit(error)
            rows.append(Refused(source, "event", str(found), to_keep(body), found.failure))
            continue
        if act.ts < now - oldest:
            why = f"ts: {(now - act.ts) / DAY:.1f} days old, {oldest / DAY:.0f} at most"
            rows.append(TooOld(source, "event", why, to_keep(body), Failure.TOO_OLD, act=act))
        else:
            rows.append(act)
    return rows


def to_keep(body: object) -> object:
    """What the quarantine keeps of a refused act: all but contact data in fields that an act has not."""
    return masked(body, SAID)


def _event(body: object, now: int) -> Arrival:
    if not isinstance(body, dict):
        raise Unfit(f"an event is a JSON object, not {type(body).__name__}")
    filled = dict(body)
    skew = _skew(filled.pop("sent", None), now)
    extra = _later(filled, parse_version(filled.pop("schema_version", None)))
    if filled.get("event_id") is None:
        filled["event_id"] = f"h{uuid.uuid4().hex}" if body.get("ts") is None else identity(body)
    if filled.get("ts") is None:
        filled["ts"] = now
        skew = 0
    act = Arrival.model_validate(filled | {"received": now, "extra": extra})
    if skew:
        act = act.model_copy(update={"ts": act.ts + skew, "skew": skew})
    if act.ts < 0:
        raise Unfit("ts: before 1970, by the clock that sent states", Failure.RANGE)
    if act.ts > now + AHEAD:
        ahead = (act.ts - now) / 1e6
        raise Unfit(f"ts: {ahead:.0f} s ahead of the server's clock, 60 s at most", Failure.RANGE)
    return act


def _later(filled: dict, version: Version) -> dict:
    """What the sender's version has beyond ours, taken out of the row."""
    if version[0] != VERSION[0]:
        theirs, ours = (".".join(map(str, one)) for one in (version, VERSION))
        raise Unfit(f"schema_version: {theirs} breaks with {ours}, which is taken here")
    unknown = [name for name in filled if name not in KNOWN]
    if not unknown:
        return {}
    if version <= VERSION:
        raise Unfit(f"{unknown[0]}: no field of an event")
    extra = {name: filled.pop(name) for name in unknown}
    if len(json.dumps(extra)) > MOST_EXTRA:
        raise Unfit(f"{unknown[0]}: more than {MOST_EXTRA} characters in unknown fields", Failure.RANGE)
    return extra


def _skew(sent: object, now: int) -> int:
    """µs by which the sender's clock is slow; 0 where it says nothing, or is right."""
    if sent is None:
        return 0
    if type(sent) is not int or not 0 <= sent < 2**62:
        raise Unfit("sent: microseconds since 1970 by the sender's clock, when it sent the row")
    return now - sent if abs(now - sent) > TOLERATED else 0


def identity(body: dict, user_id: str | None = None) -> str:
    """An id that is the same for the same content, whenever it is sent.

    ``user_id`` is taken in place of who stands there: the pseudonym of an account. Who has the store could
    else try accounts until one fits.
    """
    said = {name: value for name, value in body.items() if name != "sent"}
    if user_id is not None:
        said["user_id"] = user_id
    content = json.dumps(said, sort_keys=True, default=str).encode()
    return f"h{hashlib.sha256(content).hexdigest()[:32]}"

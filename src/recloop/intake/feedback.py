"""Feedback as it comes over HTTP: a JSON list in, typed events and refusals out."""

import hashlib
import json
import uuid
from collections.abc import Sequence

from pydantic import ValidationError

from recloop.schema import Event, now_us
from recloop.store import Refused

DAY = 86_400_000_000  # microseconds
OLDEST = 7 * DAY  # a phone that was offline for a week may still deliver
AHEAD = 60_000_000  # a client's clock may be a minute fast


def parse_events(raw: Sequence[object], now: int | None = None) -> tuple[list[Event], list[Refused]]:
    """Events of a JSON batch, and what is none with the field that is wrong.

    An absent ``ts`` is now. An absent ``event_id`` is made: from the content where ``ts`` was given,
    so that delivering the same act again is harmless; else a random one. An act more than seven
    days old or more than a minute ahead of ``now`` (µs since 1970) is refused.
    """
    now = now_us() if now is None else now
    good: list[Event] = []
    refused: list[Refused] = []
    for body in raw:
        try:
            event = _event(body, now)
        except (ValidationError, ValueError) as error:
            refused.append(Refused("http", "event", _reason(error), body))
        else:
            good.append(event)
    return good, refused


def _event(body: object, now: int) -> Event:
    if not isinstance(body, dict):
        raise ValueError(f"an event is a JSON object, not {type(body).__name__}")
    filled = dict(body)
    if filled.get("event_id") is None:
        filled["event_id"] = _identity(body)
    if filled.get("ts") is None:
        filled["ts"] = now
    event = Event.model_validate(filled)
    if event.ts > now + AHEAD:
        raise ValueError(f"ts: {(event.ts - now) / 1e6:.0f} s ahead of the server's clock, 60 s at most")
    if event.ts < now - OLDEST:
        raise ValueError(f"ts: {(now - event.ts) / DAY:.1f} days old, 7 at most")
    return event


def _identity(body: dict) -> str:
    if body.get("ts") is None:
        return f"h{uuid.uuid4().hex}"
    content = json.dumps(body, sort_keys=True, default=str).encode()
    return f"h{hashlib.sha256(content).hexdigest()[:32]}"


def _reason(error: ValueError) -> str:
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())

"""What people say of themselves (sign-up forms, surveys) and what devices sense, as changes of profiles.

A place is kept as a cell of a grid and never as it was sent, not even in quarantine.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from recloop.intake.reasons import Unfit, unfit
from recloop.schema import Failure, User, now_us
from recloop.schema.records import Attribute, Identifier, Micros, Record
from recloop.store import Refused
from recloop.store.profiles import Change, changed

GRID = 0.1  # degrees: 11 km from north to south
FRESH = 3_600_000_000  # µs for which a reading says where somebody is
MOST_ANSWERS = 50
CONTACT = frozenset({"name", "email", "mail", "phone", "mobile", "address", "birthday", "password"})
LEFT_OUT = "left out"  # of what the quarantine keeps
PROFILE = frozenset({"age", "sex", "region"})
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Motion(StrEnum):
    """What a device says that its bearer does."""

    STILL = "still"
    WALKING = "walking"
    RUNNING = "running"
    CYCLING = "cycling"
    VEHICLE = "vehicle"


class Form(Record):
    """A sign-up form or a survey; ``age``, ``sex`` and ``region`` are the profile's, others attributes."""

    kind: Literal["signup", "survey"]
    user_id: Identifier
    answers: Annotated[dict[Name, Attribute], Field(min_length=1, max_length=MOST_ANSWERS)]
    ts: Micros | None = None


class Reading(Record):
    """What a device sensed: degrees of WGS 84, and a class of motion."""

    kind: Literal["sensor"]
    user_id: Identifier
    latitude: Annotated[float, Field(ge=-90, le=90, allow_inf_nan=False)] | None = None
    longitude: Annotated[float, Field(ge=-180, le=180, allow_inf_nan=False)] | None = None
    motion: Motion | None = None
    ts: Micros | None = None


_ROW: TypeAdapter[Form | Reading] = TypeAdapter(Annotated[Form | Reading, Field(discriminator="kind")])


def judge_profiles(
    raw: Sequence[object], consented: Callable[[str], bool], now: int | None = None, source: str = "http"
) -> list[Change | Refused]:
    """Per row the change of a profile, or why it is none. ``consented``: to personalisation, by ``user_id``.

    Sensors and surveys need that consent; a sign-up form is what a person fills in to be served. A reading
    more than an hour old is refused: somebody is elsewhere by now.
    """
    now = now_us() if now is None else now
    rows: list[Change | Refused] = []
    for body in raw:
        try:
            row = _ROW.validate_python(body)
            if row.kind != "signup" and not consented(row.user_id):
                raise Unfit(f"user_id: a {row.kind} needs consent to personalisation", Failure.CONSENT)
            rows.append(_reading(row, now) if isinstance(row, Reading) else _form(row, now))
        except ValueError as error:
            wrong = unfit(error)
            rows.append(Refused(source, "profile", str(wrong), private(body), wrong.failure))
    return rows


def _form(row: Form, now: int) -> Change:
    require_plain(row.answers, "answers")
    profile = {name: value for name, value in row.answers.items() if name in PROFILE}
    attributes = {name: value for name, value in row.answers.items() if name not in PROFILE}
    change = Change(row.user_id, profile, attributes, now if row.ts is None else row.ts)
    changed(User(user_id=row.user_id), change)
    return change


def require_plain(facts: Mapping[str, object], where: str) -> None:
    """Facts that a profile may have.

    Raises:
        Unfit: one is contact data, or has a NUL.
    """
    if contact := sorted(name for name in facts if name.lower() in CONTACT):
        raise Unfit(f"{where}.{contact[0]}: contact data is no part of a profile: see store.personal")
    if silent := [name for name, value in facts.items() if "\0" in str(value)]:
        raise Unfit(f"{where}.{silent[0]}: a NUL, which no text holds")


def _reading(row: Reading, now: int) -> Change:
    ts = now if row.ts is None else row.ts
    if ts < now - FRESH:
        raise Unfit(f"ts: {(now - ts) / 6e7:.0f} minutes old, {FRESH / 6e7:.0f} at most", Failure.TOO_OLD)
    if (row.latitude is None) != (row.longitude is None):
        raise Unfit("latitude and longitude: one without the other")
    attributes: dict[str, Any] = {}
    if row.latitude is not None and row.longitude is not None:
        attributes["cell"] = f"{_edge(row.latitude):.1f},{_edge(row.longitude):.1f}"
    if row.motion is not None:
        attributes["motion"] = str(row.motion)
    if not attributes:
        raise Unfit("latitude, longitude, motion: a reading says nothing")
    return Change(row.user_id, {}, attributes, ts)


def private(body: object) -> object:
    """A body without contact data, and without a place more exact than a cell, however deep they stand."""
    if isinstance(body, dict):
        return {name: _private(str(name).lower(), value) for name, value in body.items()}
    return [private(part) for part in body] if isinstance(body, list) else body


def _private(name: str, value: object) -> object:
    if name in CONTACT:
        return LEFT_OUT
    return _coarse_number(value) if name[:3] in ("lat", "lon", "lng") else private(value)


def _coarse_number(value: object) -> object:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return LEFT_OUT
    return _edge(number) if abs(number) <= 360 else LEFT_OUT


def _edge(degrees: float) -> float:
    """The cell's southern or western edge."""
    return round(math.floor(degrees / GRID + 1e-9) * GRID, 1)

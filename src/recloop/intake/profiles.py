"""What people say of themselves (sign-up forms, surveys) and what devices sense, as changes of profiles.

A place is kept as a cell of a grid and never as it was sent, not even in quarantine, and contact
data nowhere.
"""

import math
import re
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, TypeAdapter

from recloop.intake.contact import LEFT_OUT, MAIL, NAMES
from recloop.intake.feedback import AHEAD
from recloop.intake.reasons import Unfit, unfit
from recloop.schema import Failure, User, now_us
from recloop.schema.records import Attribute, Identifier, Micros, Record
from recloop.store import Refused
from recloop.store.profiles import Change, changed

GRID = 0.1  # degrees: 11 km from north to south
FRESH = 3_600_000_000  # µs for which a reading says where somebody is
MOST_ANSWERS = 50
PLACES = frozenset({"lat", "latitude", "lon", "lng", "long", "longitude", "gps", "coords", "coordinates"})
PLACE = re.compile(r"[0-9]\.[0-9]{3,}[^0-9.]+[0-9]{1,3}\.[0-9]{3,}")  # two exact numbers
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
            if row.ts is not None and row.ts > now + AHEAD:
                raise Unfit("ts: in the future; it is in microseconds since 1970, UTC", Failure.RANGE)
            if row.kind != "signup" and not consented(row.user_id):
                raise Unfit(f"user_id: a {row.kind} needs consent to personalisation", Failure.CONSENT)
            rows.append(_reading(row, now) if isinstance(row, Reading) else _form(row, now))
        except ValueError as error:
            wrong = unfit(error)
            rows.append(Refused(source, "profile", str(wrong), kept(body, wrong.failure), wrong.failure))
    return rows


def _form(row: Form, now: int) -> Change:
    for name, value in sorted(row.answers.items()):
        require_welcome(f"answers.{name}", name, value)
    profile = {name: value for name, value in row.answers.items() if name in PROFILE}
    attributes = {name: value for name, value in row.answers.items() if name not in PROFILE}
    change = Change(row.user_id, profile, attributes, now if row.ts is None else row.ts)
    changed(User(user_id=row.user_id), change)
    return change


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


def kept(body: object, failure: Failure, model: type[Record] | None = None) -> object:
    """What the quarantine keeps of a refused row: no place more exact than a cell, no contact data, no field
    that nobody knows, and without consent nothing but whose it is."""
    if not isinstance(body, dict):
        return LEFT_OUT
    model = model or (Form if body.get("kind") in ("signup", "survey") else Reading)
    known = model.model_fields
    if failure is Failure.CONSENT:
        return {name: body[name] for name in ("kind", "user_id")}
    return {name: _kept(name, value) for name, value in body.items() if name in known} | {
        name: LEFT_OUT for name in body if name not in known and re.fullmatch("[A-Za-z_]{1,32}", str(name))
    }


def _kept(name: str, value: object) -> object:
    if name in ("latitude", "longitude"):
        return _coarse_number(value)
    if name in ("answers", "attributes") and isinstance(value, dict):
        return {one: _welcome(one, answer) for one, answer in value.items()}
    return _welcome(name, value) if isinstance(value, int | str) else LEFT_OUT


def require_welcome(field: str, name: str, value: object) -> None:
    """Nothing, where a profile may hold this under this name; ``field`` is what the refusal calls it.

    Raises:
        Unfit: it is contact data, an exact place, or no text.
    """
    name, text = name.lower(), str(value)
    if name in NAMES or MAIL.search(text):
        raise Unfit(f"{field}: contact data is no part of a profile: see store.personal")
    if name in PLACES or PLACE.search(text):
        raise Unfit(f"{field}: a place: send it as the reading of a sensor, of which a cell is kept")
    if "\0" in text:
        raise Unfit(f"{field}: a NUL, which no text holds")


def _welcome(name: str, value: object) -> object:
    try:
        require_welcome(name, name, value)
    except Unfit:
        return LEFT_OUT
    return value


def _coarse_number(value: object) -> object:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return LEFT_OUT
    return _edge(number) if abs(number) <= 360 else LEFT_OUT


def _edge(degrees: float) -> float:
    """The cell's southern or western edge."""
    return round(math.floor(degrees / GRID + 1e-9) * GRID, 1)

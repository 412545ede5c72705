"""Records as they cross an edge: validated, typed, and closed to unknown fields."""

import time
from enum import StrEnum
from typing import Annotated, Any
from unicodedata import normalize
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticKnownError

STARS = 5.0  # that a rating has at most
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
NO_NUL = r"^[^\x00]*$"  # PostgreSQL has no text with it
Text = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=NO_NUL)]
Prose = Annotated[str, StringConstraints(max_length=8192, pattern=NO_NUL)]
Category = Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Micros = Annotated[int, Field(ge=0, lt=2**62, description="microseconds since 1970, UTC")]
Attribute = Annotated[str, StringConstraints(max_length=128)] | Finite


def _reference(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("a reference is http://host/... or https://host/..., without a name or password")
    return text


Reference = Annotated[
    str, StringConstraints(max_length=2048, pattern=r"^[^\s\x00-\x1f]+$"), AfterValidator(_reference)
]


def composed(value: Any) -> Any:
    """A text, or the texts of an object, in Unicode's composed form (NFC), so that a word has one spelling.

    Some systems take Hangul and accents apart (NFD): they look alike and are other characters.
    """
    if isinstance(value, str):
        return value if value.isascii() else normalize("NFC", value)
    return {composed(k): composed(v) for k, v in value.items()} if isinstance(value, dict) else value


def now_us() -> int:
    """The wall clock in microseconds since 1970, UTC."""
    return time.time_ns() // 1_000


class Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class User(Record):
    """A person under a pseudonym; contact data never stands here (see ``store.personal``)."""

    user_id: Identifier
    age: Annotated[int, Field(ge=0, le=120)] | None = None
    sex: Annotated[str, StringConstraints(pattern=r"^[FMX]$")] | None = None
    region: Annotated[str, StringConstraints(max_length=64, pattern=NO_NUL)] | None = None
    attributes: dict[str, Attribute] = {}
    created_at: Micros = 0

    _spelt = field_validator("region", "attributes", mode="before")(composed)


class Item(Record):
    """Something that can be recommended: a talent's offer, a film, a garment.

    ``image`` refers to a picture elsewhere; nothing here ever fetches it.
    """

    item_id: Identifier
    title: Text
    category: Category = "other"
    price: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    available: bool = True
    attributes: dict[str, Attribute] = {}
    text: Prose | None = None
    image: Reference | None = None
    created_at: Micros = 0

    _spelt = field_validator("title", "category", "attributes", "text", mode="before")(composed)


class Context(Record):
    """What is known of the moment of a request."""

    device: Annotated[str, StringConstraints(max_length=32)] = "unknown"
    ts: Micros | None = Field(default=None, description="when the person asked; now, if absent")


class EventKind(StrEnum):
    """What a person can do with an item that was shown."""

    VIEW = "view"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"
    DISMISS = "dismiss"
    DWELL = "dwell"


class Event(Record):
    """One act of feedback. ``event_id`` makes a repeated delivery harmless."""

    event_id: Identifier
    user_id: Identifier
    item_id: Identifier
    kind: EventKind
    value: Finite = Field(
        default=1.0,
        description="the rating's stars (0 to 5), the purchase's price, the seconds of a dwell, else 1",
    )
    request_id: Identifier | None = Field(default=None, description="the impression it answers")
    ts: Micros

    @field_validator("value")
    @classmethod
    def _in_range(cls, value: float, found: ValidationInfo) -> float:
        if value < 0:
            raise PydanticKnownError("greater_than_equal", {"ge": 0})
        if found.data.get("kind") == EventKind.RATING and value > STARS:
            raise PydanticKnownError("less_than_equal", {"le": STARS})
        return value


class Traffic(StrEnum):
    """Who is no customer: such acts are kept, and nothing learns from them."""

    BOT = "bot"
    INTERNAL = "internal"


class Arrival(Event):
    """An event, and what was noted at the door.

    Attributes:
        received: when it came, by this side's clock, in µs since 1970.
        skew: µs that were added to the sender's ``ts``, because its clock was that much slow.
        traffic: why nothing learns from it, if it is no customer's.
        extra: fields of a later schema version, which are kept though this one has no use for them.
    """

    received: Micros
    skew: int = 0
    traffic: Traffic | None = None
    extra: dict = {}


class Failure(StrEnum):
    """Why a row was not let in."""

    SCHEMA = "schema"
    RANGE = "range"
    REFERENCE = "reference"
    CONSENT = "consent"
    DUPLICATE = "duplicate"
    TOO_OLD = "too-old"


class Impression(Record):
    """One item at one position of the slate that one request got."""

    request_id: Identifier
    position: Annotated[int, Field(ge=0, lt=1000)]
    user_id: Identifier
    item_id: Identifier
    propensity: Annotated[float, Field(gt=0, le=1)] | None = Field(
        description="probability with which the policy put this item at this position, given the"
        " items above it; None when no policy chose (organic logs)"
    )
    policy: Annotated[str, StringConstraints(max_length=64)]
    slot: Annotated[str, StringConstraints(max_length=16)] = ""
    device: Annotated[str, StringConstraints(max_length=32)] = "unknown"
    partial: bool = Field(default=False, description="the log holds only some of the slate's positions")
    traffic: Traffic | None = None
    ts: Micros


class Slate(Record):
    """The ordered list of k items that one request gets."""

    request_id: Identifier
    items: list[Identifier]
    titles: list[str]
    scores: list[Finite]
    propensities: list[Annotated[float, Field(gt=0, le=1)]]
    policy: str
    cold_start: bool = False
    fallback: bool = False

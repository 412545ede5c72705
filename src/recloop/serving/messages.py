"""What a slot is asked, checked field by field; the gateway takes the same."""

import math
import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from recloop.schema import STARS, EventKind

IDENTIFIER = r"^[A-Za-z0-9._:-]{1,64}$(?!\n)"  # in Python, $ alone lets a last newline pass
HISTORY = "x-recloop-history"  # an answer's header, where the person had to be taken for a stranger
STRANGERS = AWAY, UNFIT = "away", "unfit"  # since the store could not be read, or the profile cannot be used
LARGE = rb'"([A-Za-z0-9_]{1,64})"\s*:\s*(-?[0-9]+(?:[.][0-9]+)?(?:[eE][+]?[0-9]+)?)'
Identifier = Annotated[str, Meta(pattern=IDENTIFIER)]
Micros = Annotated[int, Meta(ge=0, lt=2**62, description="microseconds since 1970, UTC")]


class Moment(Struct, forbid_unknown_fields=True):
    """What is known of the moment of a request."""

    device: Annotated[str, Meta(max_length=32)] = "unknown"
    ts: Micros | None = None


class Ask(Struct, forbid_unknown_fields=True):
    """``POST /recommend``."""

    user_id: Identifier
    context: Moment = msgspec.field(default_factory=Moment)
    k: Annotated[int, Meta(ge=1, le=100)] | None = None
    exclude: Annotated[list[Identifier], Meta(max_length=1000)] = []


class Feedback(Struct, forbid_unknown_fields=True):
    """``POST /feedback``: one act; the server fills in what is absent."""

    user_id: Identifier
    item_id: Identifier
    kind: EventKind
    value: Annotated[float, Meta(ge=0, le=1e12)] = 1.0
    request_id: Identifier | None = None
    event_id: Identifier | None = None
    ts: Micros | None = None

    def __post_init__(self) -> None:
        if self.kind is EventKind.RATING and self.value > STARS:
            raise ValueError(f"Expected `float` <= {STARS} for a rating - at `$.value`")


class Refusal(Struct):
    """Why a request was not served; ``field`` names what is wrong with it."""

    error: str
    field: str = ""


UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def refusal(error: Exception, body: bytes) -> tuple[int, Refusal]:
    """The status and the reason for a body whose decoding raised one of ``UNREADABLE``.

    422 where a field is unknown, missing or wrong, 400 where it is no JSON.
    """
    if isinstance(error, UnicodeDecodeError):
        return 400, Refusal(f"the body is not UTF-8: {error.reason}", "body")
    if isinstance(error, RecursionError):
        return 400, Refusal("the body is nested too deeply", "body")
    return (422 if isinstance(error, msgspec.ValidationError) else 400), _explained(str(error), body)


def _explained(text: str, body: bytes) -> Refusal:
    """msgspec's message, with the field that it speaks of on its own.

    Where the body is no JSON, that is the key before the place where it breaks, as in ``"k": NaN``; where a
    number is too large for what is decoded without a type, it is that number's key.
    """
    if text.startswith("Number out of range") and "[...]" in text:
        for key, number in re.findall(LARGE, body):
            if not math.isfinite(float(number)):
                return Refusal(text, key.decode())
    parts = []
    if found := re.search(r"at `\$\.?([^`]*)`$", text):
        parts.append(found.group(1))
    if found := re.search(r"(?:unknown|required) field `(.*?)`", text):
        parts.append(found.group(1))
    if found := re.search(r"\(byte (\d+)\)$", text):
        before = body[: int(found.group(1))]
        if key := re.search(rb'"([A-Za-z0-9_]{1,64})"\s*:\s*-?$', before):
            return Refusal(f"{text}: numbers must be finite, words in quotes", key.group(1).decode())
    return Refusal(text, ".".join(part for part in parts if part) or "body")

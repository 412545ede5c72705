"""What a slot is asked, checked field by field; the gateway takes the same."""

import re
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

Identifier = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{1,64}$")]
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
    kind: Annotated[str, Meta(pattern="^(view|click|cart|purchase|rating|dismiss)$")]
    value: Annotated[float, Meta(ge=-1e12, le=1e12)] = 1.0
    request_id: Identifier | None = None
    event_id: Identifier | None = None
    ts: Micros | None = None


class Refusal(Struct):
    """Why a request was not served; ``field`` names what is wrong with it."""

    error: str
    field: str = ""


def refusal(error: msgspec.MsgspecError) -> Refusal:
    """msgspec's message, with the field that it speaks of on its own."""
    text = str(error)
    found = re.search(r"(?:unknown|required) field `([^`]*)`", text) or re.search(r"at `\$\.([^`]*)`", text)
    return Refusal(text, found.group(1) if found else "body")

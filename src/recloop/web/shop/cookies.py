"""What the shop keeps in the browser. No cookie can be read by a script or is sent by another site's form.

All but the person's end with the visit. Cart, order, hidden and language are what a visitor asked for; the
person's comes with their choice, and what was seen only with consent to the service.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from starlette.requests import Request
from starlette.responses import Response

from recloop.web.texts import LANGUAGE_COOKIE

PERSON, CART, ORDER = "recloop_person", "recloop_cart", "recloop_order"
HIDDEN, SEEN = "recloop_hidden", "recloop_seen"
YEAR = 365 * 24 * 3600  # seconds
MOST = {CART: 20, ORDER: 20, HIDDEN: 40, SEEN: 5}  # entries: 4 KiB are what a browser keeps
TOLD = {  # on the page on privacy: cookie, what for, how long
    PERSON: ("cookie_person", "a_year"),
    CART: ("cookie_cart", "until_closed"),
    ORDER: ("cookie_order", "until_closed"),
    HIDDEN: ("cookie_hidden", "until_closed"),
    SEEN: ("cookie_seen", "until_closed"),
    LANGUAGE_COOKIE: ("cookie_lang", "until_closed"),
}
_PERSON = re.compile(r"w-[0-9a-f]{32}")
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")


class Line(NamedTuple):
    """An item, and the request in whose slate it was seen; empty where there was none."""

    item_id: str
    request_id: str = ""


def person_of(request: Request) -> str:
    """The pseudonym; empty where there is none that we gave."""
    found = request.cookies.get(PERSON, "")
    return found if _PERSON.fullmatch(found) else ""


def lines_of(request: Request, name: str) -> list[Line]:
    """The entries of a cookie, of which those that cannot be ours are passed over."""
    found = []
    for part in request.cookies.get(name, "").split("!")[: MOST[name]]:
        item, _, asked = part.partition("|")
        if is_id(item) and (not asked or is_id(asked)):
            found.append(Line(item, asked))
    return found


def is_id(text: str) -> bool:
    """Whether it can be the id of an item or a request."""
    return _ID.fullmatch(text) is not None


def keep(answer: Response, request: Request, name: str, lines: Iterable[Line]) -> None:
    """Set a cookie with the newest entries, or take it away where there is none."""
    value = "!".join(f"{line.item_id}|{line.request_id}".rstrip("|") for line in list(lines)[-MOST[name] :])
    if value:
        put(answer, request, name, value)
    else:
        drop(answer, name)


def put(answer: Response, request: Request, name: str, value: str, seconds: int | None = None) -> None:
    """Set one; without ``seconds`` it ends with the visit."""
    secure = request.url.scheme == "https"
    answer.set_cookie(name, value, max_age=seconds, httponly=True, samesite="lax", secure=secure)


def drop(answer: Response, *names: str) -> None:
    """Take cookies away."""
    for name in names:
        answer.delete_cookie(name, httponly=True, samesite="lax")

"""How a person's name stands in somebody else's text, and how it is taken out there.

A *name* is an id in the store or an account. It is found as it is, and as JSON and addresses write it. Many
names are words or numbers that others write without meaning the person (``kim``, ``design``, ``12``): what
would be found everywhere is looked for only where people are named (``telling``).
"""

import json
import mmap
import re
from collections.abc import Sequence
from functools import cache
from urllib.parse import quote, unquote

LONG = 16  # characters from which a name cannot be part of another by accident
MIXED = 8  # characters from which a name of letters and digits is no everyday word
ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
SPACES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
DEEP = 4  # times that JSON may stand within JSON
BEFORE = (  # no letter, digit or underscore, but for the end of an escape; nor the middle of an id
    rb"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2})|(?<=\\u[0-9A-Fa-f]{4}))"
    rb"(?<![A-Za-z0-9_][.:-])"
)
AFTER = rb"(?![A-Za-z0-9_])(?![.:-][A-Za-z0-9_])"


def telling(name: str) -> bool:
    """Whether nobody writes the name by chance: digits in it, and letters or very many characters."""
    digits, letters = any(map(str.isdigit, name)), any(map(str.isalpha, name))
    return digits and (len(name) >= LONG or (letters and len(name) >= MIXED))


@cache
def forms(name: str) -> tuple[str, ...]:
    """The name as it is, as JSON and as an address write it."""
    address = quote(name, safe="")
    small = re.sub("%..", lambda sign: sign[0].lower(), address)
    return tuple(dict.fromkeys((name, json.dumps(name)[1:-1], address, small)))


@cache
def whole(name: str) -> re.Pattern[bytes]:
    """The name, not as a part of another one of letters, digits, dots, colons, dashes and underscores.

    One of 16 characters and more is found within others too.
    """
    found = b"|".join(re.escape(form.encode()) for form in forms(name))
    return re.compile(found if len(name) >= LONG else BEFORE + b"(?:" + found + b")" + AFTER)


def mentions(text: str, names: Sequence[str]) -> bool:
    """Whether a text names one of them, also in the escapes of JSON or of an address."""
    for _ in range(DEEP):
        if any(named(form.encode(errors="replace"), names) for form in (text, unquote(text))):
            return True
        if (plain := ESCAPE.sub(_unescaped, text)) == text:
            return False
        text = plain
    return False


def named(content: bytes | mmap.mmap, names: Sequence[str]) -> bool:
    """Whether one of the names stands there, as it is written."""
    return any(whole(name).search(content) for name in names)


@cache
def _part(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])" if len(name) < LONG else re.escape(name)
    )


def entitled(path: str, names: Sequence[str]) -> bool:
    """Whether a file or folder is called by one of the names that tell somebody, also beside other words."""
    return any(telling(name) and _part(name).search(path) for name in names)


def retitled(path: str, names: Sequence[str]) -> str:
    """The path with an x for each character of such a name."""
    for name in filter(telling, names):
        path = _part(name).sub("x" * len(name), path)
    return path


def crossed(content: bytes, names: Sequence[str]) -> bytes:
    """The content with an x for each byte of a name, as it is written."""
    for name in names:
        content = whole(name).sub(lambda found: b"x" * len(found[0]), content)
    return content


def blotted(text: str, names: Sequence[str]) -> str:
    """The text with an x for each character of a name; where one stands in escapes, these are resolved."""
    for _ in range(DEEP):
        if not mentions(text, names):
            return text
        text = _crossed(text, names)
        if mentions(unquote(text), names) and text != unquote(text):
            text = _crossed(unquote(text), names)
        elif mentions(text, names):
            text = _crossed(ESCAPE.sub(_unescaped, text), names)
    return "x" * len(text) if mentions(text, names) else text


def blotted_json(text: str, names: Sequence[str]) -> str:
    """The same in the strings, keys and numbers of an object in JSON; what cannot be read is emptied."""
    if not mentions(text, names):
        return text
    try:
        found = json.dumps(_without(json.loads(text), names), ensure_ascii=text.isascii())
    except (ValueError, RecursionError):
        return "{}"
    return "{}" if mentions(found, names) else found


def _without(value: object, names: Sequence[str]) -> object:
    match value:
        case str():
            return blotted(value, names)
        case dict():
            clean: dict[str, object] = {}
            for key, one in value.items():
                name = blotted(key, names)
                while name != key and (name in value or name in clean):
                    name += "x"
                clean[name] = _without(one, names)
            return clean
        case list():
            return [_without(one, names) for one in value]
        case int() | float() if not isinstance(value, bool) and named(str(value).encode(), names):
            return "x" * len(str(value))
    return value


def _crossed(text: str, names: Sequence[str]) -> str:
    return crossed(text.encode(errors="surrogatepass"), names).decode(errors="surrogatepass")


def _unescaped(escape: re.Match[str]) -> str:
    sign = escape[1]
    return chr(int(sign[1:], 16)) if len(sign) == 5 else SPACES.get(sign, sign)

"""Contact data, known by the names of fields and by how it looks: the quarantine is to hold little of it."""

import json
import re

NAMES = frozenset({"name", "email", "mail", "phone", "mobile", "address", "birthday", "password"})
MAIL = re.compile(r"[^@\s]@[^@\s]{1,255}\.[^@\s]{2}")
PHONE = re.compile(r"(?<![\w.])(?:\+|0)[0-9](?:[ ().-]{0,2}[0-9]){7,13}(?!\w)")  # 010-1234-5678, +82 2 ...
LEFT_OUT = "left out"


def masked(body: object, known: frozenset[str]) -> object:
    """A row as it came, but that contact data in fields that are none of the ``known`` is left out.

    Such a field must go before the row can be let in, so that nothing is lost that a repair needs.
    """
    if not isinstance(body, dict):
        return body
    found = [name for name, value in body.items() if name not in known and _is_contact(name, value)]
    return body | dict.fromkeys(found, LEFT_OUT) if found else body


def _is_contact(name: object, value: object) -> bool:
    if str(name).lower() in NAMES:
        return True
    text = json.dumps(value, default=str, ensure_ascii=False)
    return bool(MAIL.search(text) or PHONE.search(text))

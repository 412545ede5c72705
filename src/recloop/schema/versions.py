"""The version of an event's schema, and what a change of it breaks.

A version is ``major.minor``. A field that is added and may be absent raises the minor number: who knows the
former version goes on. Anything that refuses what was taken before raises the major number.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Version = tuple[int, int]
VERSION: Version = (1, 0)
WORDS = {  # of JSON Schema: whether a greater value takes more (1) or less (-1)
    "minimum": -1,
    "exclusiveMinimum": -1,
    "minLength": -1,
    "minItems": -1,
    "maximum": 1,
    "exclusiveMaximum": 1,
    "maxLength": 1,
    "maxItems": 1,
}


def parse_version(said: object) -> Version:
    """``"1.2"`` as (1, 2); of a sender that says nothing, ours.

    Raises:
        ValueError: it is no version.
    """
    if said is None:
        return VERSION
    found = re.fullmatch(r"([0-9]{1,4})\.([0-9]{1,4})", said, re.ASCII) if isinstance(said, str) else None
    if found is None:
        raise ValueError('schema_version: two numbers as in "1.0"')
    return int(found[1]), int(found[2])


def breaking(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What the new JSON Schema of an object refuses that the old one took, each with the field's name.

    Fields are compared one level deep, as events have them: whether each is still there and may be
    absent, its types, its words (``enum``), its ``pattern`` and its bounds.
    """
    found = []
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, field in before.items():
        if name not in after:
            found.append(f"{name}: is gone")
            continue
        found += [f"{name}: {why}" for why in _narrower(_resolved(old, field), _resolved(new, after[name]))]
    must = set(new.get("required", ())) - set(old.get("required", ()))
    return found + [f"{name}: must be given now" for name in sorted(must)]


def added(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of the fields that only the new JSON Schema has."""
    return sorted(set(new.get("properties", {})) - set(old.get("properties", {})))


def _resolved(schema: Mapping[str, Any], field: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The forms that a field may have."""
    if "$ref" in field:
        return _resolved(schema, schema["$defs"][field["$ref"].rpartition("/")[2]])
    if "anyOf" in field:
        return [form for part in field["anyOf"] for form in _resolved(schema, part)]
    return [field]


def _narrower(old: list[Mapping[str, Any]], new: list[Mapping[str, Any]]) -> Iterator[str]:
    forms = {form.get("type"): form for form in new}
    for form in old:
        kind = form.get("type")
        match = forms.get(kind) or (forms.get("number") if kind == "integer" else None)
        if match is None:
            yield f"was {kind}, which is taken no more"
            continue
        if lost := set(form.get("enum", ())) - set(match.get("enum", form.get("enum", ()))):
            yield f"takes no more {', '.join(sorted(map(str, lost)))}"
        if "enum" in match and "enum" not in form:
            yield "takes only certain words now"
        if match.get("pattern") not in (None, form.get("pattern")):
            yield f"must match {match['pattern']} now"
        for word, sign in WORDS.items():
            if word in match and (word not in form or sign * match[word] < sign * form[word]):
                yield f"{word} is {match[word]} now"

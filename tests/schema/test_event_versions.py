"""Versions of an event's schema: what a change of it breaks is named, and ours never breaks unnoticed."""

import copy
import json
from pathlib import Path

import pytest

from recloop.schema import Event
from recloop.schema.versions import VERSION, added, breaking, parse_version

FROZEN = Path(__file__).with_name("event-1.0.json")
OURS = Event.model_json_schema()


def test_our_schema_breaks_nothing_that_was_published_and_says_what_it_adds():
    """Whoever adds a field raises the second number of VERSION and freezes the new schema beside this one."""
    published = json.loads(FROZEN.read_text())
    assert breaking(published, OURS) == []
    assert added(published, OURS) == []
    assert FROZEN.name == f"event-{VERSION[0]}.{VERSION[1]}.json"


def changed(act):
    schema = copy.deepcopy(OURS)
    act(schema)
    return breaking(OURS, schema)


def kinds(schema):
    return schema["$defs"]["EventKind"]["enum"]


@pytest.mark.parametrize(
    ("act", "said"),
    [
        (lambda s: s["properties"].pop("value"), ["value: is gone"]),
        (lambda s: s["required"].append("request_id"), ["request_id: must be given now"]),
        (lambda s: s["properties"]["value"].update(type="string"),
         ["value: was number, which is taken no more"]),
        (lambda s: kinds(s).remove("dismiss"), ["kind: takes no more dismiss"]),
        (lambda s: s["properties"]["ts"].update(minimum=5), ["ts: minimum is 5 now"]),
        (lambda s: s["properties"]["value"].update(maximum=5), ["value: maximum is 5 now"]),
        (lambda s: s["properties"]["user_id"].update(pattern="^u"), ["user_id: must match ^u now"]),
        (lambda s: s["properties"].update(request_id=s["properties"]["user_id"]),
         ["request_id: was null, which is taken no more"]),
        (lambda s: s["properties"]["value"].update(enum=[1.0]), ["value: takes only certain words now"]),
    ],
)  # fmt: skip
def test_what_breaks_is_named(act, said):
    assert changed(act) == said


@pytest.mark.parametrize(
    "act",
    [
        lambda s: s["properties"].update(place={"type": "string"}),
        lambda s: s["required"].remove("ts"),
        lambda s: kinds(s).append("share"),
        lambda s: s["properties"]["ts"].update(type="number"),
        lambda s: s["properties"]["ts"].update(exclusiveMaximum=2**63),
        lambda s: s["properties"]["user_id"].pop("pattern"),
    ],
)
def test_what_takes_more_breaks_nothing(act):
    assert changed(act) == []


@pytest.mark.parametrize(
    "said", ["1", "1.", "a.b", 1.0, "1.0.0", "١.٠", "-1.0", ["1", "0"], "1.0\n", "99999.0"]
)
def test_what_is_no_version_is_said(said):
    with pytest.raises(ValueError, match="schema_version"):
        parse_version(said)


def test_who_says_nothing_has_ours():
    assert parse_version(None) == VERSION
    assert parse_version("3.14") == (3, 14)

"""Every reason that the code can give for a refusal has its Korean: the code itself is asked for them."""

import ast
import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic_core._pydantic_core import list_all_errors

import recloop
from recloop.intake.consents import Said, parse_consents
from recloop.intake.feedback import judge
from recloop.intake.items import parse_items
from recloop.intake.profiles import _ROW, judge_profiles
from recloop.intake.reasons import unfit
from recloop.intake.server_log import parse_line
from recloop.intake.traffic import Rules
from recloop.intake.wording import KOREAN, reason_in
from recloop.schema import Arrival, Impression, Item, Slate, User
from recloop.serving.messages import UNREADABLE, refusal
from recloop.store import Refused

SOURCE = Path(recloop.__file__).parent
MAKERS = [
    *SOURCE.glob("intake/*.py"),
    *(SOURCE / name for name in ("schema/records.py", "schema/versions.py", "store/log.py")),
    *(SOURCE / name for name in ("delivery/intake.py", "delivery/problems.py", "serving/messages.py")),
]
AT_A_TERMINAL = {"replay.py", "rows.py", "match.py", "relink.py"}  # whoever replays or imports reads English
SAMPLE = "31"
# what a function that is looked at too says, and a file that cannot be read, which is told at a terminal
ELSEWHERE = re.compile(r"(\S+: )?31|cannot read .*")
KINDS = {"str": "string", "tagged-union": "union_tag", "function-after": "value_error"}
ALWAYS = {"missing", "extra_forbidden", "invalid_key", "value_error", "finite_number"}


def test_a_figure_is_found_again_wherever_it_stands():
    def korean(reason):
        return reason_in("ko", reason)

    assert korean("ts: 9.3 days old, 7 at most") == "ts: 9.3일 지났습니다. 7일까지 허용됩니다"
    assert korean("kind: Input should be 'view', 'cart' or 'click'") == (
        "kind: 다음 가운데 하나여야 합니다: 'view', 'cart', 'click'"
    )
    assert korean("age: Input should be a valid integer; user_id: Field required") == (
        "age: 정수여야 합니다; user_id: 있어야 하는 필드입니다"
    )
    assert korean("body: Expected `object`, got `int` - at `$[0]`") == (
        "body: `object`이(가) 아니라 `int`이(가) 왔습니다(위치: `$[0]`)"
    )
    assert korean(
        "k: JSON is malformed: invalid character (byte 6): numbers must be finite, words in quotes"
    ) == (
        "k: JSON이 올바르지 않습니다: 허용되지 않는 문자(6번째 바이트). 숫자는 유한해야 하고 글은 따옴표 안에"
        " 있어야 합니다"
    )
    assert korean(
        "image: Value error, a reference is http://host/... or https://host/..., without a name or password"
    ).startswith("image: 참조는")


@pytest.mark.parametrize("reason", ["", "of another version", "a: b: c", "x" * 5000, "age: too old; z: zz"])
def test_what_is_not_known_stays_as_it_was_written(reason):
    assert reason_in("ko", reason) == reason
    assert reason_in("en", "age: missing") == "age: missing"
    assert reason_in("ko", "age: missing; z: zz") == "age: 없습니다; z: zz"


def text_of(node):
    """A string or f-string of the source with a sample for each figure; None for anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(SAMPLE if isinstance(part, ast.FormattedValue) else part.value for part in node.values)
    return None


def reasons_in(path):
    """What a module raises as unfit, refuses of a sheet, or names as ``why``."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "why":
            yield text_of(node.value)
        if isinstance(node, ast.FunctionDef) and node.name == "unwelcome":
            said = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            yield from (text for text in said if " " in text and text != ast.get_docstring(node))
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            place = {"Unfit": 0, "ValueError": 0, "refuse": 1, "Refusal": 0}.get(name)
            if place is not None and len(node.args) > place:
                yield text_of(node.args[place])


REASONS = {
    text: path.name
    for path in MAKERS
    if path.name not in AT_A_TERMINAL
    for text in reasons_in(path)
    if text and not ELSEWHERE.fullmatch(text)
}


def test_the_reasons_are_found_in_the_code():
    assert len(REASONS) > 40
    assert {"feedback.py", "consents.py", "sheet.py", "log.py", "versions.py", "problems.py"} <= set(
        REASONS.values()
    )


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_in_the_code_has_its_korean(reason):
    korean = reason_in("ko", reason)
    assert re.search("[가-힣]", korean), reason
    message = reason.partition(": ")[2] or reason
    assert korean.count(SAMPLE) == reason.count(SAMPLE), "no figure is lost"
    assert not re.search(r"[a-z]{3,} [a-z]{2,} [a-z]{2,}", korean), f"{message} is half English"


def kinds_of(schema, found):
    """Types and bounds that occur in a schema of pydantic's core."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            found |= {schema["type"], *(name for name in schema if isinstance(name, str))}
        for part in schema.values():
            kinds_of(part, found)
    elif isinstance(schema, list | tuple):
        for part in schema:
            kinds_of(part, found)
    return found


def test_all_that_pydantic_can_find_wrong_with_a_record_has_its_korean():
    kinds = kinds_of(_ROW.core_schema, set())
    for model in (Arrival, Impression, Item, User, Said, Slate):
        kinds_of(model.__pydantic_core_schema__, kinds)
    bounds = {"gt": "greater_than", "ge": "greater_than_equal", "lt": "less_than", "le": "less_than_equal",
              "max_length": "too_long", "min_length": "too_short"}  # fmt: skip
    names = {KINDS.get(kind, kind) for kind in kinds - {"default"}} | {
        bounds[kind] for kind in kinds & set(bounds)
    }
    wanted = {}
    for error in list_all_errors():
        kind = error["type"]
        if kind in ALWAYS or kind in names or any(kind.startswith(f"{name}_") for name in names):
            wanted[kind] = error
    assert len(wanted) > 25
    assert {"string_pattern_mismatch", "int_from_float", "union_tag_invalid", "bool_type"} <= set(wanted)
    for kind, error in wanted.items():
        for template in (error["message_template_python"], error.get("message_template_json")):
            if template and kind != "value_error":
                told = re.sub(r"\{\w+\}", "7", template.replace("{expected_plural}", "s"))
                assert re.search("[가-힣]", reason_in("ko", f"age: {told}")), kind


def values():
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=80)
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2)
    )


OTHERS = {"answers", "latitude", "longitude", "motion", "sent", "schema_version", "age"}
FIELDS = sorted({*Arrival.model_fields, *Item.model_fields, *Said.model_fields, *OTHERS})


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), values()) | values())
def test_whatever_comes_each_reason_is_read(body):
    refused = [row.reason for row in judge([body]) if isinstance(row, Refused)]
    refused += [row.reason for row in judge_profiles([body], lambda _: False) if isinstance(row, Refused)]
    refused += [str(why) for _, why in parse_consents([body], {}, 0) if not isinstance(why, BaseModel)]
    refused += list(parse_items([body])[1].values())
    for reason in refused:
        if len(reason) < 2000:
            assert re.search("[가-힣]", reason_in("ko", reason)), reason


@given(st.text() | values().map(json.dumps))
def test_whatever_a_log_holds_each_reason_is_read(line):
    reason = ""
    try:
        parse_line(line.replace("\n", " "), Rules(""))
    except ValueError as error:
        reason = str(unfit(error))
    assert not reason or len(reason) >= 2000 or re.search("[가-힣]", reason_in("ko", reason)), reason


JSON = rb'[{"k": -1.5e3, "b": [true, null, {"a": "x\u00e9\ud83d\ude00\n"}], "c": false}, "d"]'


def broken():
    """A body of JSON with each byte of it cut off, left out, exchanged or repeated; and other faults."""
    for at in range(len(JSON)):
        yield JSON[:at]
        yield JSON[:at] + JSON[at + 1 :]
        for byte in b'\x00\x80\xff\n ,:]}[{"\\u9-.e':
            yield JSON[:at] + bytes([byte]) + JSON[at + 1 :]
            yield JSON[:at] + bytes([byte]) + JSON[at:]
    yield from (
        b"[" * 5000,
        b"[1e999]",
        b"[" + b"9" * 5000 + b"]",
        b'{"a": 1e999}',
        b'["\\ud800x"]',
        b"\xed\xa0\x80",
    )


def test_however_a_body_is_broken_its_reason_is_read():
    seen = set()
    for decoder in (msgspec.json.Decoder(list), msgspec.json.Decoder(dict)):
        for body in broken():
            try:
                decoder.decode(body)
            except UNREADABLE as error:
                found = refusal(error, body)[1]
                korean = reason_in("ko", f"{found.field}: {found.error}")
                assert re.search("[가-힣]", korean), found
                assert not re.search("invalid|expected|trailing|unexpected|malformed", korean), korean
                seen.add(re.sub(r"\d+", "", found.error))
    assert len(seen) > 10


def test_the_reader_is_not_slow_on_what_somebody_made_to_slow_it():
    for reason in (": " * 999, "a; " * 660, " is known with another " * 80, "Input should be " * 120):
        KOREAN.read(reason)


def test_a_row_of_no_record_at_all_is_named():
    (row,) = judge_profiles([3], lambda _: True)
    assert row.reason.startswith("row: ")

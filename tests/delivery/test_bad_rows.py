"""Rows of every bad kind over real HTTP: quarantine counts each under its failure, and nothing breaks."""

import json
import random
from collections import Counter

import pytest
from sqlalchemy import func, select

from recloop.schema import now_us
from recloop.store.tables import events, quarantine
from tests.delivery.live import Live

DAY = 86_400_000_000
GOOD = {"user_id": "u", "item_id": "i1", "kind": "click"}
KIND = {"content-type": "application/json"}
HOSTILE = [
    "'; DROP TABLE events; --",
    "1 OR 1=1",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "{{7*7}}",
    "${jndi:ldap://x/a}",
    "../../etc/passwd",
    "%00",
    "а1",  # a Cyrillic letter that looks like a Latin one
    "ｕ１",  # wide letters
    "u\u200b1",  # with a zero-width space
    "\u202eu1",  # from right to left
    "\0",
    "u\0u",
    "\x07\x1b[31m",
    "\r\nSet-Cookie: a=b",
    "u" * 65,
    "😀" * 70_000,
    "",
]
WRONG = [None, True, 7, 1.5, [], {}, [[]], {"$ne": 1}]


def bad_row(luck, number):
    """A row that cannot be taken, and how it fails."""
    match luck.randrange(8):
        case 0:
            return GOOD | {luck.choice(["user_id", "item_id"]): luck.choice(HOSTILE)}, "schema"
        case 1:
            return GOOD | {"event_id": luck.choice([text for text in HOSTILE if text])}, "schema"
        case 2:
            return GOOD | {luck.choice(["user_id", "item_id", "kind"]): luck.choice(WRONG)}, "schema"
        case 3:
            name = luck.choice([*HOSTILE[:12], "__proto__", "constructor"])
            return GOOD | {name: luck.choice(WRONG)}, "schema"
        case 4:
            deep = {"a": 1}
            for _ in range(luck.randrange(50)):
                deep = {"a": [deep]}
            return luck.choice([deep, [deep], GOOD | {"value": deep}, 7, None, "x", [GOOD]]), "schema"
        case 5:
            return GOOD | {"ts": luck.choice([-1, 2**62, now_us() + DAY + number])}, "range"
        case 6:
            return GOOD | {"ts": now_us() - 8 * DAY - number}, "too-old"
        case _:
            return GOOD | {"item_id": f"x{number}"}, "reference"


RAW = [
    b'[{"user_id": "u", "item_id": "i1", "kind": "click", "value": NaN}]',
    b'[{"value": -Infinity}]',
    b'[{"value": 1e999}]',
    b"[" * 50_000 + b"]" * 50_000,
    b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    b"[\xff\xfe\x00]",
    b'["\\ud800"]',  # half a character
    b'[{"user_id": "u"',
    b"",
    b"\0",
    b'{"rows": []}',
    b"<events/>",
    b'["' + b"a" * (10 << 20) + b'"]',
]


def send(live, total, seed=0):
    """So many bad rows, in batches with one good row each; the statuses, and the failures that were sent."""
    luck, statuses, failures, good = random.Random(seed), Counter(), Counter(), 0
    sent = 0
    while sent < total:
        if luck.random() < 0.2:
            raw = luck.choice(RAW)
            statuses[live.client.post("/events", content=raw, headers=KIND).status_code] += 1
            failures["schema"] += 1
            sent += 1
            continue
        made = [bad_row(luck, sent + n) for n in range(min(luck.randrange(1, 800), total - sent))]
        rows = [row for row, _ in made]
        rows.insert(luck.randrange(len(rows) + 1), GOOD | {"event_id": f"good{sent}"})
        for part in _parts(rows):
            raw = json.dumps(part).encode()
            statuses[live.client.post("/events", content=raw, headers=KIND).status_code] += 1
        failures.update(failure for _, failure in made)
        good += 1
        sent += len(made)
    return statuses, failures, good


def _parts(rows):
    """Below the limit of a body."""
    parts, size = [[]], 0
    for row in rows:
        length = len(json.dumps(row))
        if size + length > 900_000:
            parts, size = [*parts, []], 0
        parts[-1].append(row)
        size += length
    return parts


def check(live, total):
    statuses, failures, good = send(live, total)
    assert max(statuses) < 500, statuses
    with live.engine.connect() as connection:
        query = select(quarantine.c.failure, func.sum(quarantine.c.seen)).group_by(quarantine.c.failure)
        assert dict(map(tuple, connection.execute(query))) == dict(failures)
        assert sum(failures.values()) == total
        assert connection.execute(select(func.count()).select_from(events)).scalar_one() == good
    assert live.client.get("/healthz").status_code == 200


def test_bad_rows_are_all_in_quarantine_and_none_breaks_it(tmp_path):
    with Live(tmp_path) as live:
        check(live, 3000)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_thousand_bad_rows(tmp_path):
    with Live(tmp_path) as live:
        check(live, 100_000)

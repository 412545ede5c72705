"""Server logs: item pages become acts, the rest is left out, broken lines are refused."""

import gzip
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.readers import read_dataset
from recloop.intake.server_log import ServerLog, parse_line
from recloop.store import open_store
from recloop.store.tables import events, impressions, quarantine

AT = 1760104536_000_000  # 10 October 2025, 13:55:36 UTC


def combined(request: str, status: int = 200, time: str = "10/Oct/2025:13:55:36 +0000") -> str:
    return f'203.0.113.9 - - [{time}] "{request}" {status} 512 "https://x.example/" "Mozilla/5.0 (X11)"\n'


def nginx_json(request: str, status: int = 200, time: str = "2025-10-10T13:55:36+00:00") -> str:
    return json.dumps({"time": time, "request": request, "status": status}) + "\n"


@pytest.mark.parametrize("line", [combined, nginx_json])
def test_a_view_is_an_organic_impression_and_an_event(line):
    found = parse_line(line("GET /items/i7?uid=u1&lang=ko HTTP/1.1"))
    assert found is not None
    shown, event = found
    assert shown is not None
    assert (event.user_id, event.item_id, event.kind, event.ts) == ("u1", "i7", "view", AT)
    assert (shown.propensity, shown.policy, shown.position) == (None, "organic", 0)
    assert (shown.request_id, shown.ts) == (event.request_id, event.ts)


def test_an_act_that_answers_a_request_brings_no_impression():
    found = parse_line(combined("POST /items/i7?uid=u1&act=click&rid=r9 HTTP/1.1", 302))
    assert found is not None
    assert found[0] is None
    assert (found[1].kind, found[1].request_id) == ("click", "r9")


def test_the_offset_of_the_clock_is_heeded():
    found = parse_line(combined("GET /items/i?uid=u HTTP/1.1", time="10/Oct/2025:22:55:36 +0900"))
    assert found is not None
    assert found[1].ts == AT


@pytest.mark.parametrize(
    "line",
    [
        combined("GET /about?uid=u1 HTTP/1.1"),
        combined("GET /items/i7 HTTP/1.1"),
        combined("GET /items/i7?uid=u1 HTTP/1.1", 404),
        combined("HEAD /items/i7?uid=u1 HTTP/1.1"),
        combined(r"\x16\x03\x01\"", 400),
        combined("-", 408),
    ],
)
def test_other_requests_are_left_out(line):
    assert parse_line(line) is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "neither"),
        ("kernel panic\n", "neither"),
        (combined("GET /items/i?uid=u HTTP/1.1")[:50], "neither"),
        (combined("GET /items/i?uid=u HTTP/1.1", time="yesterday"), "time"),
        (combined("GET /items/i?uid=a%20b HTTP/1.1"), "user_id"),
        (combined("GET /items/%00?uid=u HTTP/1.1"), "item_id"),
        (combined("GET /items/i?uid=u&act=stare HTTP/1.1"), "act: none of view"),
        (nginx_json("GET /items/i?uid=u HTTP/1.1")[:30], "a JSON line"),
        (nginx_json("GET /items/i?uid=u HTTP/1.1", time="2025-10-10T13:55:36"), "time: without"),
        ('{"time": "2025-10-10T13:55:36+00:00", "status": 200}', "request: missing"),
        ('{"time": 5, "request": "GET /", "status": 200}', "time, request or status"),
        ('{"a":' * 100_000, "a JSON line"),
    ],
)
def test_a_broken_line_says_why(line, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        parse_line(line)


@given(st.text() | st.text().map(lambda path: combined(f"GET /items/{path} HTTP/1.1")))
def test_no_line_crashes_the_parser(line):
    try:
        found = parse_line(line)
    except ValueError:
        return
    assert found is None or found[1].item_id


def test_a_log_is_imported_once(tmp_path, store_url):
    log = tmp_path / "access.log"
    log.write_text(
        combined("GET /items/i7?uid=u1 HTTP/1.1")
        + combined("GET /items/i7?uid=u1&act=cart&rid=r1 HTTP/1.1")
        + combined("GET / HTTP/1.1")
        + "torn lin"
    )
    engine = open_store(store_url)
    report = import_into(engine, ServerLog(log), progress=False)
    table = report.tables["lines"]
    assert (table.read, table.kept, table.quarantined) == (4, 2, 1)
    assert report.added == {"users": 1, "items": 0, "impressions": 1, "events": 2}
    assert set(import_into(engine, ServerLog(log), progress=False).added.values()) == {0}
    with engine.connect() as connection:
        assert sorted(connection.execute(select(events.c.kind)).scalars()) == ["cart", "view"]
        assert connection.execute(select(impressions.c.policy)).scalars().all() == ["organic"]
        (row,) = connection.execute(select(quarantine.c.kind, quarantine.c.body)).all()
    assert row.kind == "log"
    assert json.loads(row.body) == {"file": "access.log", "line": 4, "text": "torn lin"}


def test_a_rotated_log_is_imported_too_and_a_torn_one_is_named(tmp_path, store_url):
    log = tmp_path / "access.log.2.gz"
    log.write_bytes(gzip.compress(combined("GET /items/i7?uid=u1 HTTP/1.1").encode()))
    report = import_into(open_store(store_url), read_dataset(log), progress=False)
    assert (report.tables["lines"].kept, report.tables["lines"].quarantined) == (1, 0)
    for torn in (log.read_bytes()[:-9], b"no gzip"):
        log.write_bytes(torn)
        with pytest.raises(DatasetError, match=r"access\.log\.2\.gz"):
            read_dataset(log)


def test_a_missing_log_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"absent\.log"):
        ServerLog(tmp_path / "absent.log")

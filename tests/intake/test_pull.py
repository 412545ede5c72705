"""Events of another service over real HTTP: page by page, from a saved cursor, through its failures."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from recloop.intake import DatasetError, import_into
from recloop.intake.pull import Api, Pulled, cursor_of
from recloop.store import open_store
from recloop.store.cursors import find_cursor
from recloop.store.quarantine import held
from recloop.store.tables import events

NOW = 1_700_000_000_000_000


class Service:
    """A shop's API: ``size`` records a page; ``faults`` are the statuses that it gives before it answers."""

    def __init__(self):
        self.records, self.faults, self.asked, self.broken, self.timed = [], [], [], None, False
        self.size = 10
        service = self

        class Answers(BaseHTTPRequestHandler):
            def do_GET(self):
                query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
                service.asked.append((query, self.headers["authorization"]))
                if service.faults:
                    fault = service.faults.pop(0)
                    if fault == "cut":
                        self.close_connection = True
                        return
                    self.send_response(fault)
                    self.send_header("retry-after", "0")
                    self.send_header("content-length", "0")
                    self.end_headers()
                    return
                body = service.broken or json.dumps(service.page(query)).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/orders?shop=7"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def page(self, query):
        if self.timed:
            later = [r for r in self.records if str(r["at"]) >= query.get("since", "")]
            return {"data": {"rows": later[: self.size]}}
        start = int(query.get("cursor", 0))
        found = self.records[start : start + 10]
        return {"events": found, "next": start + len(found) if found else None}


@pytest.fixture
def service():
    service = Service()
    yield service
    service.server.shutdown()
    service.server.server_close()


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


def record(n):
    return {"event_id": f"o{n}", "user_id": "u", "item_id": f"i{n}", "kind": "purchase", "ts": NOW + n}


def pull(engine, service, **words):
    api = Api("shop", service.url, **words)
    return import_into(
        engine, Pulled(api, find_cursor(engine, cursor_of("shop")), attempts=4, pause=0.01), progress=False
    )


def ids(engine):
    with engine.connect() as connection:
        return list(connection.execute(select(events.c.event_id).order_by(events.c.seq)).scalars())


def test_pages_are_read_once_and_the_next_pull_asks_for_what_is_new(engine, service):
    service.records = [record(n) for n in range(25)]
    assert pull(engine, service, token="secret").added["events"] == 25
    assert service.asked[0] == ({"shop": "7"}, "Bearer secret")
    service.records += [record(n) for n in range(25, 31)]
    service.asked.clear()
    assert pull(engine, service).tables["records"].read == 6
    assert [query.get("cursor") for query, _ in service.asked] == ["25", "31"]
    assert ids(engine) == [f"o{n}" for n in range(31)]


def test_failures_are_outlived(engine, service):
    service.records = [record(n) for n in range(12)]
    service.faults = [503, "cut", 429, 500]
    assert pull(engine, service).added["events"] == 12


def test_where_it_gives_up_what_came_is_kept_and_the_next_pull_goes_on(engine, service):
    service.records = [record(n) for n in range(25)]
    source = Pulled(Api("shop", service.url), attempts=2, pause=0.01)
    batches = source.batches()

    class Breaks:
        name, size, cursor = source.name, None, source.cursor
        tables = source.tables

        def batches(self):
            yield next(batches)
            service.faults = [500] * 9
            yield from batches

    with pytest.raises(DatasetError, match=r"answered 500|cannot be asked"):
        import_into(engine, Breaks(), progress=False)
    assert len(ids(engine)) == 10
    service.faults, service.asked = [], []
    pull(engine, service)
    assert service.asked[0][0]["cursor"] == "10"
    assert ids(engine) == [f"o{n}" for n in range(25)]


def test_a_service_without_cursors_is_asked_by_its_newest_time(engine, service):
    fields = {"buyer": "user_id", "sku": "item_id", "what": "kind", "at": "ts"}
    service.records = [
        {"buyer": "u", "sku": f"i{n}", "what": "click", "at": f"2023-11-14T22:13:{n:02}+00:00", "more": n}
        for n in range(25)
    ]
    service.timed = True
    words = {"records": "data.rows", "following": "", "newest": "at", "param": "since", "fields": fields}
    assert pull(engine, service, **words).added["events"] == 25
    assert pull(engine, service, **words).added["events"] == 0
    with engine.connect() as connection:
        rows = connection.execute(select(events).order_by(events.c.seq)).all()
    assert [row.item_id for row in rows] == [f"i{n}" for n in range(25)]
    assert rows[1].ts - rows[0].ts == 1_000_000


def test_bad_records_are_quarantined_with_the_service_s_name(engine, service):
    service.records = [record(0), record(1) | {"kind": "stare"}, 7, record(2) | {"user_id": None}]
    report = pull(engine, service)
    assert (report.tables["records"].kept, report.tables["records"].quarantined) == (1, 3)
    assert {row.source for row in held(engine, 9)} == {"shop"}
    assert len(held(engine, 9)) == 3


def test_a_last_page_that_is_read_again_is_quarantined_once(engine, service):
    service.records = [record(0), record(1) | {"kind": "stare"}]
    service.page = lambda query: {"events": service.records, "next": None}
    assert [pull(engine, service).tables["records"].quarantined for _ in range(2)] == [1, 1]
    assert len(held(engine, 9)) == 1


def test_a_service_that_goes_round_in_a_circle_is_left(engine, service):
    service.records = [record(0)]
    service.page = lambda query: {
        "events": service.records,
        "next": "b" if query.get("cursor") == "a" else "a",
    }
    with pytest.raises(DatasetError, match="goes round"):
        pull(engine, service)
    assert ids(engine) == ["o0"]


@pytest.mark.parametrize(
    ("body", "said"),
    [(b"<html>", "no JSON"), (b'{"data": []}', "no list at 'events'"), (b"[" * 100_000, "no JSON")],
)
def test_what_is_no_page_is_said(engine, service, body, said):
    service.broken = body
    with pytest.raises(DatasetError, match=said):
        pull(engine, service)


def test_a_service_that_refuses_is_said_at_once(engine, service):
    service.faults = [401]
    with pytest.raises(DatasetError, match="answered 401"):
        pull(engine, service)
    assert len(service.asked) == 1


def timed(service, moments):
    """A service without cursors, whose records have these moments; what one of its pages is asked with."""
    service.timed = True
    service.records = [record(n) | {"at": moment} for n, moment in enumerate(moments)]
    fields = {name: name for name in record(0)}
    return {"records": "data.rows", "following": "", "newest": "at", "param": "since", "fields": fields}


AT = "2023-11-14T22:13:20"


@pytest.mark.parametrize("zone", ["Z", ".250Z", "+09:00", ""])
def test_a_whole_page_of_one_time_is_said_until_pages_are_larger(engine, service, zone):
    words = timed(service, [AT + zone] * 15 + [AT.replace(":20", ":21") + zone])
    for _ in range(2):  # also for whoever goes on from the saved cursor
        with pytest.raises(
            DatasetError, match=r"more records have it than a page holds \(10\).*larger pages"
        ):
            pull(engine, service, **words)
    assert len(ids(engine)) == 10, "what came is kept"
    service.size = 20
    pull(engine, service, **words)
    assert ids(engine) == [f"o{n}" for n in range(16)]


@pytest.mark.parametrize("at", [1_700_000_000, "1700000000", AT, AT + "Z", "2023-11-14", "release-7"])
def test_a_page_of_one_time_that_is_the_last_is_the_end(engine, service, at):
    words = timed(service, [at] * 3)
    assert pull(engine, service, **words).added["events"] == 3
    assert pull(engine, service, **words).added["events"] == 0


@pytest.mark.parametrize("at", [(7, 8), ("7", "8"), ("2023-11-14", "2023-11-15"), (AT, AT[:-2] + "21")])
def test_a_cursor_that_cannot_advance_is_found_whatever_it_is(engine, service, at):
    words = timed(service, [at[0]] * 12 + [at[1]])
    with pytest.raises(DatasetError, match="more records have it than a page holds"):
        pull(engine, service, **words)


def test_what_comes_while_one_asks_is_no_stall(engine, service):
    words = timed(service, [AT] * 3)
    page = service.page

    def grows(query):
        if query.get("since", "") > AT and len(service.records) == 3:
            service.records.append(record(3) | {"at": AT[:-2] + "21"})
        return page(query)

    service.page = grows
    assert pull(engine, service, **words).added["events"] == 4


def test_records_that_lack_the_field_that_grows_are_said(engine, service):
    words = timed(service, [AT])
    with pytest.raises(DatasetError, match="no record of a page has a number or a text at 'when'"):
        pull(engine, service, **words | {"newest": "when"})

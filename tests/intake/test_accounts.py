"""With accounts no row in the store hangs on the account, however it came in; and none comes in twice."""

import hashlib
import json

import pytest
from sqlalchemy import select

from recloop.intake import import_into
from recloop.intake.files import EventTable, ImpressionTable, OrganicTable, PersonTable
from recloop.intake.follow import FollowedLog
from recloop.intake.pull import Api, Pulled
from recloop.intake.replay import replay
from recloop.intake.server_log import ServerLog
from recloop.store import Refused, append, open_store
from recloop.store.quarantine import held
from recloop.store.tables import events, impressions, quarantine, users

AT = 1_700_000_000_000_000
OF_THE_MOMENT = {"received", "created_at"}  # and the quarantine's ts


def acts(who):
    act = {"user_id": who, "item_id": "i1", "kind": "click", "ts": AT}
    return [
        act,
        act | {"kind": "purchase", "value": 12.5, "request_id": "r1"},
        act | {"kind": "view", "event_id": "given"},
        act | {"kind": "stare"},
        act | {"ts": "yesterday"},
    ]


def lines(who):
    head, tail = '203.0.113.9 - - [14/Nov/2023:22:13:20 +0000] "GET ', ' HTTP/1.1" 200 5 "-" "Safari"\n'
    asked = "2023-11-14T22:13:20+00:00"
    return [
        f"{head}/items/i1?uid={who}{tail}",
        f"{head}/items/i1?uid={who}&act=click&rid=r1{tail}".replace(
            '"-"', f'"https://s/items/i1?uid={who}"', 1
        ),
        f"{head}/items/i1?uid={who}&act=stare{tail}".replace('"-"', f'"https://s/items/i1?uid={who}"', 1),
        json.dumps({"time": asked, "request": f"GET /items/i2?uid={who} HTTP/1.1", "status": 200}) + "\n",
        *(json.dumps(act) + "\n" for act in acts(who)),
    ]


def written(path, rows):
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows))
    return path


def shown(who):
    row = {"request_id": "r1", "position": 0, "user_id": who, "item_id": "i1", "ts": AT}
    return [row, row | {"item_id": "i2"}, row | {"position": -1}]


def pulled(who):
    source = Pulled(Api("shop", "http://127.0.0.1:9/"))
    source._ask = lambda _: {"events": acts(who), "next": None}
    return source


WAYS = {
    "events": lambda path, who: EventTable(written(path / "a.jsonl", acts(who))),
    "organic": lambda path, who: OrganicTable(written(path / "a.jsonl", acts(who))),
    "impressions": lambda path, who: ImpressionTable(written(path / "a.jsonl", shown(who))),
    "people": lambda path, who: PersonTable(written(path / "a.jsonl", [{"user_id": who, "age": 300}])),
    "server-log": lambda path, who: ServerLog(written(path / "a.log", lines(who))),
    "follow": lambda path, who: FollowedLog(written(path / "a.log", lines(who))),
    "pull": lambda _, who: pulled(who),
}


def taken(engine, source, who):
    return import_into(engine, source, progress=False, name={who: "p-1"}.get)


def dump(engine):
    """All that the store has of rows, but when they came."""
    found = {}
    with engine.connect() as connection:
        for table in (users, impressions, events, quarantine):
            rows = connection.execute(select(table).order_by(*table.primary_key)).mappings()
            left = OF_THE_MOMENT | ({"ts", "replayed"} if table is quarantine else set())
            found[table.name] = [{k: v for k, v in row.items() if k not in left} for row in rows]
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_store_is_the_same_whatever_the_account_is_called(tmp_path, new_store, way):
    stores = []
    for who in ("kim.minji", "lee.hyori"):
        engine = open_store(new_store())
        first = taken(engine, WAYS[way](tmp_path, who), who)
        stores.append(dump(engine))
        again = taken(engine, WAYS[way](tmp_path, who), who)
        assert set(again.added.values()) == {0}, "the same again adds nothing"
        now = dump(engine)
        assert [row | {"seen": 1} for row in now["quarantine"]] == stores[-1]["quarantine"]
        assert now["events"] == stores[-1]["events"]
        assert way == "people" or sum(first.added.values()) > 0
    assert stores[0] == stores[1]
    assert stores[0]["quarantine"]
    assert "kim" not in json.dumps(stores[0])


@pytest.mark.parametrize("way", ["events", "organic", "server-log", "follow", "pull"])
def test_what_came_when_ids_were_made_of_accounts_is_not_doubled(tmp_path, store_url, way):
    engine = open_store(store_url)
    (batch,) = WAYS[way](tmp_path, "kim").batches()
    rows = [row.model_copy(update={"user_id": "p-1"}) for row in (*batch.impressions, *batch.events)]
    shown = len(batch.impressions)
    assert append(engine, rows[:shown], rows[shown:]) == len(rows)
    before = dump(engine)
    assert set(taken(engine, WAYS[way](tmp_path, "kim"), "kim").added.values()) == {0}
    after = dump(engine)
    assert (after["events"], after["impressions"]) == (before["events"], before["impressions"])
    assert {row["failure"] for row in after["quarantine"]} == {"schema"}, "no conflicts"


def test_without_accounts_ids_are_those_of_the_content_as_it_is(tmp_path, store_url):
    engine = open_store(store_url)
    import_into(engine, WAYS["organic"](tmp_path, "kim"), progress=False)
    content = json.dumps(acts("kim")[0], sort_keys=True).encode()
    name = f"h{hashlib.sha256(content).hexdigest()[:32]}"
    with engine.connect() as connection:
        found = {row.event_id: row.request_id for row in connection.execute(select(events))}
    assert found[name] == f"o{hashlib.sha256(name.encode()).hexdigest()[:24]}"


def test_the_same_act_has_one_id_from_a_table_a_log_and_an_api(tmp_path, store_url):
    engine = open_store(store_url)
    assert taken(engine, WAYS["events"](tmp_path, "kim"), "kim").added["events"] == 3
    log = ServerLog(written(tmp_path / "a.log", [json.dumps(act) + "\n" for act in acts("kim")]))
    assert [taken(engine, source, "kim").added["events"] for source in (log, pulled("kim"))] == [0, 0]


@pytest.mark.parametrize("kind", ["event", "body", "log"])
def test_what_is_let_in_repaired_has_no_id_of_the_account(new_store, kind):
    found = []
    for who in ("kim", "lee"):
        engine = open_store(new_store())
        append(engine, refused=[Refused("http", kind, "?", {"user_id": "p-1", "text": "?"})])
        (row,) = held(engine, 1)
        repaired = lines(who)[0] if kind == "log" else json.dumps(acts(who)[0])
        assert replay(engine, row, repaired, any_age=True, name={who: "p-1"}.get) == 1
        found.append({name: rows for name, rows in dump(engine).items() if name != "quarantine"})
    assert found[0] == found[1]

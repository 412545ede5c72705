"""Bots and colleagues are flagged, kept, and nothing learns from them."""

import json

import pyarrow.parquet as pq
import pytest
from sqlalchemy import select

from recloop.delivery.outcomes import outcomes
from recloop.intake.replay import replay
from recloop.intake.server_log import parse_line
from recloop.intake.traffic import Rules
from recloop.schema import Event, Impression, Item, Traffic
from recloop.schema.records import Arrival
from recloop.settings import load_params
from recloop.store import add_items, append, open_store, popular
from recloop.store.quarantine import held
from recloop.store.snapshot import watermark, write_snapshot
from recloop.store.tables import events, impressions
from tests.delivery.live import PARAMS, Live

SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 Version/17.5 Safari/604.1"
)
AGENTS = {
    SAFARI: None,
    "Mozilla/5.0 (Linux; Android 10; CUBOT X30) AppleWebKit/537.36 Chrome/120.0.0.0 Mobile": None,
    "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)": "bot",
    "Mozilla/5.0 (compatible; Yeti/1.1; +https://naver.me/spd) AppleWebKit crawler": "bot",
    "Mozilla/5.0 (X11; Linux x86_64) HeadlessChrome/120.0.0.0": "bot",
    "Mozilla/5.0 (compatible; YandexBot/3.0)": "bot",
    "facebookexternalhit/1.1": "bot",
}


@pytest.mark.parametrize("agent", AGENTS)
def test_machines_are_known_by_what_they_call_themselves(agent):
    assert Rules().of_sender(agent, "203.0.113.9") == AGENTS[agent]
    assert Rules().of_sender(agent, "203.0.113.9", direct=True) == AGENTS[agent]


@pytest.mark.parametrize(
    "agent", ["curl/8.5.0", "python-requests/2.32", "Go-http-client/2.0", "-", "", "Wget/1.21"]
)
def test_a_tool_is_a_bot_where_a_browser_should_stand_and_else_a_server(agent):
    assert Rules().of_sender(agent, "") is None
    assert Rules().of_sender(agent, "", direct=True) == Traffic.BOT


def test_colleagues_are_known_by_network_and_pseudonym():
    rules = Rules("10.0.0.0/8, 2001:db8::/32, qa-*")
    assert rules.of_sender(SAFARI, "10.1.2.3") == Traffic.INTERNAL
    assert rules.of_sender("Googlebot", "2001:db8::1") == Traffic.INTERNAL
    assert rules.of_sender(SAFARI, "::ffff:10.1.2.3") == Traffic.INTERNAL
    assert rules.of_sender(SAFARI, "11.1.2.3") is None
    assert rules.of_sender(SAFARI, "::ffff:11.1.2.3") is None
    assert rules.of_sender(SAFARI, "unix") is None
    assert rules.of_person("qa-7") == Traffic.INTERNAL
    assert rules.of_person("a-qa-7") is None
    with pytest.raises(ValueError, match="10"):
        Rules("10.0.0.0/99")


def test_a_log_s_lines_are_flagged():
    line = '10.0.0.9 - - [10/Oct/2025:13:55:36 +0000] "GET /items/i7?uid={} HTTP/1.1" 200 5 "-" "{}"'
    rules = Rules("10.0.0.0/24,qa-*")
    assert parse_line(line.format("u", SAFARI))[1].traffic is None
    shown, act = parse_line(line.format("u", "Googlebot/2.1"))
    assert (shown.traffic, act.traffic) == ("bot", "bot")
    assert parse_line(line.format("u", SAFARI), rules)[1].traffic == "internal"
    away = line.replace("10.0.0.9", "203.0.113.9")
    assert parse_line(away.format("qa-1", SAFARI), rules)[1].traffic == "internal"


def test_nothing_learns_from_them(tmp_path, store_url):
    engine = open_store(store_url)
    add_items(engine, [Item(item_id="a", title="A"), Item(item_id="b", title="B")])
    common = {"user_id": "u", "ts": 5}
    for n, (item, traffic) in enumerate(
        [("a", None), ("b", Traffic.BOT), ("b", Traffic.INTERNAL), ("b", None)]
    ):
        named = common | {"item_id": item, "request_id": f"r{n}"}
        shown = Impression(position=0, propensity=0.5, policy="p", traffic=traffic, **named)
        kind = "view" if n == 3 else "click"
        append(engine, [shown], [Arrival(event_id=f"e{n}", kind=kind, received=6, traffic=traffic, **named)])
    append(engine, acts=[Event(event_id="old", kind="click", item_id="a", **common)])
    assert popular(engine, 9, 4.0) == ["a"]
    found = outcomes(engine, load_params(PARAMS).reward)
    assert found["p"].requests == 2
    rows = write_snapshot(engine, watermark(engine), tmp_path).rows
    assert (rows["impressions"], rows["events"]) == (2, 3)
    assert pq.read_table(tmp_path / "events.parquet")["event_id"].to_pylist() == ["e0", "e3", "old"]


def test_over_http(tmp_path):
    act = {"user_id": "u", "item_id": "i1", "kind": "click"}
    live = Live(tmp_path)
    live.places = live.places.model_copy(update={"internal": "qa-*"})
    with live:
        live.client.post("/feedback", json=act)
        live.client.post("/feedback", json=act, headers={"user-agent": "Googlebot/2.1"})
        live.client.post("/feedback", json=act | {"user_id": "qa-1"})
        for person in ("u", "qa-1"):
            live.ask(person, k=1)
        bot = {"user-agent": "Googlebot/2.1"}
        live.client.post("/feedback", json=act | {"kind": "stare"}, headers=bot)
        live.client.post("/feedback", content=b"{", headers=bot | {"content-type": "application/json"})
        live.client.post("/feedback", json=act | {"kind": "stare", "user_id": "qa-1"})
        live.client.post("/feedback", json=act | {"kind": "stare"})
        refused = held(live.engine, 9)[::-1]
        for row in refused:
            assert replay(live.engine, row, json.dumps(act)) == 1
        with live.engine.connect() as connection:
            flags = connection.execute(select(events.c.traffic).order_by(events.c.seq)).scalars().all()
            shown = (
                connection.execute(select(impressions.c.traffic).order_by(impressions.c.seq)).scalars().all()
            )
    assert flags == [None, "bot", "internal", "bot", "bot", "internal", None]
    assert not any("Googlebot" in row.body + row.reason for row in refused)
    assert shown == [None, "internal"]

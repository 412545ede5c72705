"""Without Prometheus: each rule is raised by what gateways, flows and rollouts write to the store."""

import re
import threading

import pytest
import uvicorn

from recloop.delivery import Target, rollout
from recloop.delivery.meters import Meters
from recloop.delivery.minutes import Minutes, counted
from recloop.delivery.presence import Presence
from recloop.delivery.tally import Tally
from recloop.policy import load
from recloop.schema import Event, Item, now_us
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import load_params
from recloop.store import Refused, add_items, append, open_store
from recloop.watch import check, notify, rules
from recloop.watch.figures import gauges
from recloop.watch.notes import expect, note_exporter, note_run
from recloop.watch.rollouts import tell
from tests.delivery.live import PARAMS, Live, until
from tests.serving.conftest import open_app, write_policy
from tests.watch.test_figures import browse, heard, trained
from tests.watch.test_rollouts import BLUE, by, canary
from tests.watch.test_watch import webhook  # noqa: F401, a fixture

ALL = load_params(PARAMS)
SECOND, DAY = 1_000_000, 86_400_000_000
WHO, AWAY = ("blue", "p"), ("blue", "p", "away")


@pytest.fixture
def engine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return open_store(f"sqlite:///{tmp_path}/s.db")


def gateway(engine, count):
    """A gateway's minute, in which it counted so."""
    meters = Meters()
    minute = Minutes(engine, meters.registry)
    minute._before = counted(meters.registry)
    count(meters)
    minute._write()


def slots(engine, outcome="ok", seconds=0.01, strangers=0, fallbacks=0, asked=100):
    def count(meters):
        meters.asked.labels(*WHO, outcome).inc(asked)
        meters.strangers.labels(*AWAY).inc(strangers)
        meters.fallbacks.inc(fallbacks)
        for _ in range(asked):
            meters.slot_seconds.labels(*WHO).observe(seconds)
            meters.gateway_seconds.labels("/recommend").observe(seconds)

    gateway(engine, count)


def feedback(engine):
    gateway(engine, lambda meters: meters.events.labels("refused").inc(100))


def ended(engine, end):
    rollout.install(engine, "blue", BLUE, "test", "first")
    number = canary(engine)
    if end == "rolled_back":
        rollout.promote(engine, number, "controller", by("canary"))
        rollout.roll_back(engine, "controller", by("switch"))
    else:
        {"refused": rollout.refuse, "paused": rollout.pause}[end](engine, number, "controller", by("canary"))


def since_training(engine, label, rate, **more):
    browse(engine, "x", 300, 0.5, start=now_us())
    trained(engine)
    browse(engine, label, 300, rate, start=now_us(), **more)


def acted(engine):
    row = {"user_id": "u", "item_id": "a", "kind": "click", "request_id": "r"}
    append(engine, [], [Event(event_id="e", ts=now_us() - 2 * DAY, **row)])


def failed_twice(engine):
    for _ in range(2):
        note_run(engine, "ingest", False, 1.0, now_us())


def off(engine):
    browse(engine, "x", 400, 0.3, start=now_us())
    expect(engine, "p", {"click": 0.6}, now_us())


def greedy(engine):
    add_items(engine, [Item(item_id=f"i{n}", title="t") for n in range(40)])
    browse(engine, "x", 700, 0.1, propensity=1.0, start=now_us())


CAUSES = {
    "GatewayDown": lambda engine: heard(engine, "lost", 100),
    "StoreUnreadable": lambda engine: Presence(engine, Tally(), lambda: 11.0)._write({}, False),
    "SlotFails": lambda engine: slots(engine, "timeout"),
    "Fallbacks": lambda engine: slots(engine, fallbacks=50),
    "SlotSlow": lambda engine: slots(engine, seconds=1.0),
    "SlotBlind": lambda engine: slots(engine, strangers=50),
    "AvailabilityBurn": lambda engine: slots(engine, fallbacks=50),
    "AvailabilitySlowBurn": lambda engine: slots(engine, fallbacks=1),
    "LatencyBurn": lambda engine: slots(engine, seconds=1.0),
    "LatencySlowBurn": lambda engine: slots(engine, seconds=1.0),
    "FeedbackRefused": feedback,
    "Quarantined": lambda engine: append(engine, refused=[Refused("http", "event", "no", {})] * 25),
    "FeedbackQuiet": acted,
    "FlowFails": failed_twice,
    "RewardLoss": lambda engine: since_training(engine, "loss", 0.2),
    "Drift": lambda engine: since_training(engine, "busan", 0.5, region="Busan"),
    "UserModelOff": off,
    "ExplorationLost": greedy,
    "ExporterDown": lambda engine: note_exporter(engine, "a:9105", 60.0, now_us() - DAY),
    "TrainingOld": lambda engine: note_run(engine, "retrain", True, 1.0, now_us() - 4 * DAY),
    "RolloutRefused": lambda engine: ended(engine, "refused"),
    "RolloutRolledBack": lambda engine: ended(engine, "rolled_back"),
    "RolloutPaused": lambda engine: ended(engine, "paused"),
}


@pytest.mark.parametrize("rule", [rule.name for rule in rules(ALL)])
def test_every_rule_is_raised_without_prometheus(engine, rule):
    assert rule not in {alert.rule for alert in check(engine, ALL)}
    CAUSES[rule](engine)
    assert rule in {alert.rule for alert in check(engine, ALL, now_us() + 1)}


def names_given(engine):
    """Of the metrics that the embedded evaluation has."""
    meters = Meters()
    for meter in vars(meters).values():
        if getattr(meter, "_labelnames", None):
            meter.labels(*meter._labelnames)
    series = {name.partition(" ")[0] for name in counted(meters.registry)}
    return series | gauges(engine, ALL).keys()


def test_every_metric_of_a_rule_is_one_that_the_store_gives(engine):
    given, asked = names_given(engine), re.compile(r"\b(?:recloop_\w+|up)\b")
    for rule in rules(ALL):
        assert set(asked.findall(rule.when.promql())) <= given, rule.name
    assert "recloop_slot_people_total" not in given, "a slot counts for Prometheus alone"


class Slot:
    """A real slot of the tiny policy over a store, on a port of its own."""

    def __init__(self, tmp_path, url):
        self.recommender = Recommender(load(write_policy(tmp_path / "policy")), Past(url))
        app = open_app(self.recommender)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
        self.thread = threading.Thread(target=self.server.run)

    def __enter__(self):
        self.thread.start()
        until(lambda: self.server.started)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        return Target(f"http://127.0.0.1:{port}", self.recommender.policy.manifest.name)

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(60)


@pytest.mark.parametrize("sees", [True, False])
def test_a_slot_whose_store_is_away_is_told_of_by_the_gateway_s_own_counts(
    tmp_path, monkeypatch, webhook, sees  # noqa: F811
):  # fmt: skip
    url, got, _ = webhook
    monkeypatch.chdir(tmp_path)
    with Live(tmp_path) as live:
        store = str(live.places.store) if sees else f"sqlite:////proc/none/{tmp_path.name}.db"
        with Slot(tmp_path, store) as target:
            rollout.install(live.engine, "blue", target, "test", "first")
            live.settled(1)
            for n in range(30):
                answer = live.ask(f"u{n}").json()
                assert (answer["fallback"], answer["cold_start"]) == (False, True)
        metrics = live.client.get("/metrics").text
    engine = open_store(live.places.store)  # the gateway has ended, and with it its minute
    of = f'history="away",policy="{target.policy}",slot="blue"'
    assert (f"recloop_slot_strangers_total{{{of}}} 30.0" in metrics) is not sees
    found = check(engine, ALL)
    assert [alert.rule for alert in found] == ([] if sees else ["SlotBlind"])
    now = now_us()
    notify(engine, found, [url], now=now)
    assert got == [], "it has not lasted yet"
    new = notify(engine, check(engine, ALL), [url], now=now + 61 * SECOND)
    assert [alert.name for alert in new] == ([] if sees else [f"SlotBlind policy={target.policy} slot=blue"])
    assert len(got) == len(new)
    assert all("100% of the people" in message["message"] for message in got)
    assert tell(engine, []) == []

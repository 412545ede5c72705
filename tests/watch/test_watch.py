"""People are told once of a fault, and of the fault rather than of its symptoms."""

import http.server
import json
import threading

import pytest

from recloop.store import open_store
from recloop.store.tables import notes
from recloop.watch import Alert, NotifyError, acknowledge, notify, raised, silence, standing
from recloop.watch.sending import require

HOUR = 3_600_000_000
MINUTE = HOUR // 60
NOW = 500_000 * HOUR
QUIET = Alert("FeedbackQuiet", "critical", "no feedback", {"value": 30.0}, "inputs")
AGE = Alert("Drift feature=age", "warning", "age has drifted", {"value": 0.4})
LOSS = Alert("RewardLoss", "critical", "reward fell", {"value": -0.4})
ENDED = Alert("rollout-1-refused", "critical", "refused", {}, "rollout")


@pytest.fixture
def engine(store_url):
    return open_store(store_url)


@pytest.fixture
def webhook():
    """A real server that keeps what was posted to it; ``status`` is what it answers."""
    got = []

    class Hook(http.server.BaseHTTPRequestHandler):
        status = 200

        def do_POST(self):
            got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(self.status)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hook)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"json://127.0.0.1:{server.server_address[1]}/hook", got, Hook
    server.shutdown()
    thread.join()
    server.server_close()


def test_people_are_told_once_until_the_time_is_over(engine, webhook):
    url, got, _ = webhook
    assert notify(engine, [QUIET], [url], now=NOW) == [QUIET]
    assert got[0]["title"] == "recloop: FeedbackQuiet"
    assert "no feedback" in got[0]["message"]
    assert "docs/runbooks/FeedbackQuiet.md" in got[0]["message"]
    assert notify(engine, [QUIET], [url], now=NOW + 5 * HOUR) == []
    assert len(got) == 1
    assert notify(engine, [QUIET], [url], now=NOW + 6 * HOUR) == [], "it is not new, but told again"
    assert len(got) == 2
    assert raised(engine) == [(NOW, Alert("FeedbackQuiet", "critical", "no feedback", {"value": 30.0}))]


def test_what_has_ended_is_said_to_be_over_and_is_new_when_it_comes_back(engine, webhook):
    url, got, _ = webhook
    notify(engine, [QUIET], [url], now=NOW)
    notify(engine, [], [url], now=NOW + HOUR)
    assert [m["title"] for m in got] == ["recloop: FeedbackQuiet", "recloop: FeedbackQuiet (over)"]
    assert standing(engine) == []
    assert notify(engine, [QUIET], [url], now=NOW + 2 * HOUR) == [QUIET]


def test_what_does_not_last_is_told_to_nobody(engine, webhook):
    url, got, _ = webhook
    slow = Alert("SlotSlow slot=blue", "warning", "slow", {}, "serving", hold=120.0)
    assert notify(engine, [slow], [url], now=NOW) == []
    assert notify(engine, [slow], [url], now=NOW + 2 * MINUTE - 1) == []
    assert notify(engine, [], [url], now=NOW + 2 * MINUTE) == []
    assert got == []
    assert notify(engine, [slow], [url], now=NOW + 3 * MINUTE) == []
    assert notify(engine, [slow], [url], now=NOW + 5 * MINUTE) == [slow]


def symptoms(minute):
    """What a gateway's death brings, minute by minute."""
    found = [Alert("GatewayDown instance=a", "critical", "a does not answer", {}, "platform", hold=60.0)]
    found += [
        Alert(f"SlotFails slot={n}", "critical", "fails", {}, "serving", hold=60.0) for n in ("blue", "green")
    ]
    found += [Alert("Fallbacks", "critical", "fallbacks", {}, "serving")]
    found += [
        Alert(f"{what}Burn", "critical", "burns", {}, "objective") for what in ("Availability", "Latency")
    ]
    if minute >= 2:
        found += [Alert("FeedbackRefused", "warning", "refused", {}, "inputs")]
    if minute >= 3:
        found += [Alert(f"Drift feature=f{n}", "warning", "drift", {}) for n in range(12)]
    if minute >= 4:
        found += [LOSS, Alert("ExplorationLost", "warning", "explores", {})]
    return found


def test_one_fault_with_twenty_symptoms_is_one_notification(engine, webhook):
    url, got, _ = webhook
    assert len(symptoms(9)) >= 20
    for minute in range(120):
        notify(engine, symptoms(minute), [url], now=NOW + minute * MINUTE)
    assert [message["title"] for message in got] == ["recloop: GatewayDown"]
    after = [alert for alert in symptoms(9) if alert.layer in ("objective", "outcome")]
    for minute in range(120, 180):  # what it caused ends later than itself, and still says nothing
        notify(engine, after, [url], now=NOW + minute * MINUTE)
    notify(engine, [], [url], now=NOW + 180 * MINUTE)
    assert [message["title"] for message in got] == ["recloop: GatewayDown", "recloop: GatewayDown (over)"]


def test_another_fault_is_another_notification(engine, webhook):
    url, got, _ = webhook
    notify(engine, [AGE], [url], now=NOW)
    notify(engine, [AGE, QUIET], [url], now=NOW + 1)
    assert [m["title"] for m in got] == ["recloop: Drift", "recloop: FeedbackQuiet"]
    twenty = [Alert(f"Drift feature=f{n}", "warning", f"f{n} is off", {}) for n in range(25)]
    notify(engine, [], [], now=NOW + 2)
    assert len(notify(engine, twenty, [url], now=NOW + HOUR)) == 25
    assert len(got) == 3
    assert "f19 is off" in got[2]["message"]
    assert "and 5 more" in got[2]["message"]


def test_a_layer_that_was_told_of_waits_a_while_with_what_is_new(engine, webhook):
    url, got, _ = webhook
    notify(engine, [AGE], [url], now=NOW)
    for minute in range(1, 15):
        assert notify(engine, [AGE, LOSS], [url], now=NOW + minute * MINUTE) == []
    assert notify(engine, [AGE, LOSS], [url], now=NOW + 15 * MINUTE) == [LOSS]
    assert len(got) == 2


def test_a_silence_holds_for_its_names_and_its_time(engine, webhook):
    url, got, _ = webhook
    silence(engine, "Drift*", NOW + HOUR, "kim", "a new region opens", NOW)
    assert notify(engine, [AGE, ENDED], [url], now=NOW) == [ENDED]
    assert [m["title"] for m in got] == ["recloop: rollout-1-refused"]
    assert notify(engine, [AGE, ENDED], [url], now=NOW + HOUR) == [AGE]


def test_what_somebody_has_in_hand_is_not_repeated_until_it_comes_back(engine, webhook):
    url, got, _ = webhook
    notify(engine, [AGE], [url], now=NOW)
    assert acknowledge(engine, "Drift*", "lee", NOW) == [AGE.name]
    assert acknowledge(engine, "Reward*", "lee", NOW) == []
    notify(engine, [AGE], [url], now=NOW + 30 * HOUR)
    assert (len(got), standing(engine)[0].who) == (1, "lee")
    notify(engine, [], [url], now=NOW + 31 * HOUR)
    assert notify(engine, [AGE], [url], now=NOW + 32 * HOUR) == [AGE]


def test_a_look_at_some_layers_ends_nothing_of_others(engine):
    notify(engine, [QUIET], [], now=NOW)
    bad = Alert("rollout-1-refused", "critical", "refused", {}, "rollout")
    assert notify(engine, [bad], [], ("rollout",), NOW + 1) == [bad]
    assert {state.alert.name for state in standing(engine)} == {QUIET.name, bad.name}


def test_what_could_not_be_delivered_is_sent_next_time(engine, webhook):
    url, got, hook = webhook
    hook.status = 500
    with pytest.raises(NotifyError, match="could not be delivered"):
        notify(engine, [QUIET], [url], now=NOW)
    assert raised(engine) == []
    hook.status = 200
    assert notify(engine, [QUIET], [url], now=NOW + 1) == [QUIET]
    assert len(got) == 2
    hook.status = 500
    with pytest.raises(NotifyError):
        notify(engine, [], [url], now=NOW + 2)
    hook.status = 200
    notify(engine, [], [url], now=NOW + 3)
    assert got[-1]["title"].endswith("(over)")


def test_an_address_that_is_not_understood_is_named_by_its_number_only(engine):
    with pytest.raises(NotifyError, match="number 2") as error:
        notify(engine, [QUIET], ["json://127.0.0.1:9/", "nonsense://user:secret@host"])
    assert "secret" not in str(error.value)
    assert notify(engine, [QUIET], []) == [QUIET], "without addresses it is noted"


def test_kakaowork_s_webhook_gets_its_one_field_in_parts_that_it_takes(engine, webhook):
    url, got, _ = webhook
    address = url.replace("json://", "kakaoworkhttp://")
    notify(engine, [QUIET], [address], now=NOW)
    assert [list(message) for message in got] == [["text"]]
    assert got[0]["text"].startswith("recloop: FeedbackQuiet")
    assert "no feedback" in got[0]["text"]
    many = [Alert(f"Drift feature=f{n}", "warning", f"f{n} is away: {'x' * 60}", {}) for n in range(20)]
    notify(engine, many, [address], now=NOW + HOUR)
    assert len(got) > 4
    assert all(list(message) == ["text"] and len(message["text"]) <= 500 for message in got)
    told = "".join(message["text"] for message in got[1:])
    assert all(f"f{n} is away" in told for n in range(20)), "nothing is cut off"
    require(["kakaowork://kakaowork.com/bots/hook/0123456789abcdef"])


def test_who_was_told_is_not_told_again_because_another_address_fails(engine, webhook):
    url, got, hook = webhook
    broken = url.replace("/hook", "/broken")
    both = [broken, url]

    refused = hook.do_POST

    def some(self):
        self.status = 500 if self.path == "/broken" else 200
        refused(self)
        got[-1]["url"] = self.path

    hook.do_POST = some
    with pytest.raises(NotifyError, match="number 1 does not take"):
        notify(engine, [QUIET], both, now=NOW)
    assert [alert.name for _, alert in raised(engine)] == [QUIET.name], "somebody was told"
    for minute in range(1, 4):
        with pytest.raises(NotifyError, match="number 1"):
            notify(engine, [QUIET], both, now=NOW + minute * MINUTE)
    titles = [message["title"] for message in got if message["url"] == "/hook"]
    assert titles == ["recloop: FeedbackQuiet"], "once"
    with pytest.raises(NotifyError):
        notify(engine, [], both, now=NOW + HOUR)
    got.clear()
    hook.do_POST = refused
    notify(engine, [], both, now=NOW + HOUR + MINUTE)
    assert [message["title"] for message in got] == [
        "recloop: FeedbackQuiet",
        "recloop: FeedbackQuiet (over)",
    ]
    assert notify(engine, [], both, now=NOW + HOUR + 2 * MINUTE) == []
    assert len(got) == 2, "what was kept is sent once"
    with engine.connect() as connection:
        assert connection.execute(notes.select()).all() == []

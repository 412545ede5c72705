"""Release: which rollout it goes on with, and the gates that need no people."""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

from flows.release import smoke
from recloop.delivery import Conflict, rollout
from recloop.delivery.processes import free_port
from recloop.delivery.release import ask_canary, first_of_its_kind, open_for
from recloop.delivery.routing import Target, read_routing
from recloop.settings import load_params, places
from recloop.store import open_store

PARAMS = load_params(Path(__file__).parents[2] / "params.yaml")
BLUE, GREEN = Target("http://127.0.0.1:1", "one"), Target("http://127.0.0.1:2", "two")


@pytest.fixture
def engine():
    engine = open_store(places().store)
    rollout.install(engine, "blue", BLUE, "test", "first")
    return engine


def canary_of(engine, policy: str):
    opened = open_for(engine, policy, slot_lives=False)
    rollout.start_canary(engine, opened.id, "green", GREEN, 0.3, "test", "well")
    return rollout.current(engine)


def test_an_open_rollout_of_this_challenger_goes_on(engine):
    opened = open_for(engine, "two", slot_lives=False)
    assert opened.state == "pending"
    assert open_for(engine, "two", slot_lives=False) == opened
    found = canary_of(engine, "two")
    assert open_for(engine, "two", slot_lives=True) == found


def test_a_newer_challenger_ends_the_rollout_of_an_older_one(engine):
    old = canary_of(engine, "two")
    new = open_for(engine, "three", slot_lives=True)
    assert (new.challenger, new.state) == ("three", "pending")
    assert rollout.history(engine)[1].id == old.id
    assert rollout.history(engine)[1].state == "aborted"
    assert read_routing(engine)[1].challenger is None, "nobody is sent to the old challenger any more"


def test_a_canary_without_its_slot_begins_anew(engine):
    old = canary_of(engine, "two")
    new = open_for(engine, "two", slot_lives=False)
    assert new.id != old.id
    assert new.state == "pending"
    assert "slot was gone" in rollout.transitions_of(engine, old.id)[0].why


def test_there_is_nothing_to_challenge_before_the_first_champion():
    with pytest.raises(Conflict, match="no champion"):
        open_for(open_store(places().store), "two", slot_lives=False)


@pytest.mark.parametrize(
    ("difference", "low", "high", "outcome"),
    [(2.0, 1.0, 3.0, "pass"), (-2.0, -3.0, -1.0, "fail"), (0.0, -9.0, 9.0, "no-data")],
)
@pytest.mark.parametrize("best", ["random", "most_popular"])
def test_the_first_policy_has_to_hold_its_own_against_the_better_baseline(
    best, difference, low, high, outcome
):
    worse = {"difference": 8.0, "low": 7.0, "high": 9.0}
    names = ("random", "most_popular")
    evaluation = {
        "lift": dict.fromkeys(names, worse) | {best: {"difference": difference, "low": low, "high": high}},
        "user_model": {key: {"value": 4.0} for key in names} | {best: {"value": 10.0}},
    }
    verdict = first_of_its_kind(evaluation, PARAMS)
    assert verdict.outcome == outcome
    assert best.replace("_", " ") in verdict.why
    assert verdict.figures["champion"] == 10.0
    assert verdict.figures["challenger"] == 10.0 + difference


def test_a_gateway_that_does_not_answer_is_no_data(engine, monkeypatch):
    monkeypatch.setenv("RECLOOP_GATEWAY_PORT", str(free_port()))
    verdict = ask_canary(places(), PARAMS, engine, canary_of(engine, "two"))
    assert verdict.outcome == "no-data"
    assert "recloop up" in verdict.why


class Answers(BaseHTTPRequestHandler):
    """A slot that gives every stranger the same slate."""

    slate: ClassVar[dict] = {}
    to_nonsense = 422

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.to_nonsense if "nonsense" in body else 200)
        self.end_headers()
        self.wfile.write(json.dumps(self.slate).encode())

    def log_message(self, *_):
        return


SOUND = {"items": ["a"], "propensities": [0.5], "policy": "two"}


@pytest.mark.parametrize(
    ("slate", "to_nonsense", "outcome"),
    [
        (SOUND, 422, "pass"),
        (SOUND | {"policy": "another"}, 422, "fail"),
        (SOUND | {"propensities": [0.0]}, 422, "fail"),
        (SOUND | {"items": []}, 422, "fail"),
        (SOUND, 200, "fail"),
        (SOUND, 500, "fail"),
    ],
)
def test_the_smoke_test_takes_sound_slates_of_the_right_policy_only(slate, to_nonsense, outcome):
    handler = type("Slot", (Answers,), {"slate": slate, "to_nonsense": to_nonsense})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert smoke.fn(Target(f"http://127.0.0.1:{server.server_port}", "two")).outcome == outcome
    finally:
        server.shutdown()

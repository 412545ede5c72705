"""Experiments that the gateway runs: over HTTP, from the first exposure to the report."""

import json
from collections import Counter

import pytest
from pydantic import ValidationError
from sqlalchemy import select
from typer.testing import CliRunner

from recloop.cli import app
from recloop.delivery import Routing, Target, read_routing, rollout
from recloop.delivery.routing import write_routing
from recloop.experiments import catalogue
from recloop.store import set_consent
from recloop.store.tables import exposures, impressions
from tests.delivery.live import PARAMS, Live, until
from tests.delivery.standin import Standin

PEOPLE = [f"u{n}" for n in range(60)]


def planned(name="photos", gives=None, **changes):
    return catalogue.Experiment(
        **{
            "name": name, "arms": {"now": 0.5, "new": 0.5}, "primary": "clicks_per_request", "people": 60,
            "effect": 0.1, "gives": gives or {"new": "slate:8"}, "looks": 1, **changes,
        }
    )  # fmt: skip


@pytest.fixture(scope="module")
def slots():
    with Standin("old") as blue, Standin("new") as green:
        yield {"blue": Target(blue.url, "old"), "green": Target(green.url, "new")}


@pytest.fixture
def live(tmp_path, slots):
    live = Live(tmp_path)
    rollout.install(live.engine, "blue", slots["blue"], "test", "first")
    with live.engine.begin() as connection:
        write_routing(connection, 1, Routing(slots, "blue"), "test", "green stands by")
    with live:
        live.settled(2)
        yield live


def begin(live, *args, **kwargs):
    standing = catalogue.start(live.engine, planned(*args, **kwargs), "test", "try")
    until(lambda: _sees(live, _running(live)))
    return standing


def _running(live):
    return {one.experiment.name for one in catalogue.running(live.engine)}


def _sees(live, names):
    return set(live.client.get("/status").json()["experiments"]) == names


def exposed(live, name="photos"):
    query = select(exposures.c.user_id, exposures.c.arm, exposures.c.ts).where(exposures.c.experiment == name)
    with live.engine.connect() as connection:
        return {row.user_id: (row.arm, row.ts) for row in connection.execute(query)}


def test_arms_get_their_slates_and_each_person_is_exposed_once(live):
    standing = begin(live)
    sizes = {user: len(live.ask(user).json()["items"]) for user in PEOPLE}
    arms = {user: standing.arm_of(user) for user in PEOPLE}
    assert sizes == {user: 8 if arm == "new" else 5 for user, arm in arms.items()}
    first = exposed(live)
    assert {user: arm for user, (arm, _) in first.items()} == arms
    with live.engine.connect() as connection:
        shown = dict(connection.execute(select(impressions.c.user_id, impressions.c.ts)).all())
    assert all(ts == shown[user] for user, (_, ts) in first.items()), "from this very request on"
    for user in PEOPLE:
        live.ask(user)
    assert exposed(live) == first
    assert len(live.ask(PEOPLE[0], k=3).json()["items"]) == 3, "who asks for a size gets it"


def test_the_report_works_on_what_the_gateway_logged(live, monkeypatch):
    standing = begin(live)
    for user in PEOPLE:
        slate = live.ask(user).json()
        act = {"user_id": user, "item_id": slate["items"][0], "request_id": slate["request_id"]}
        if standing.arm_of(user) == "new" or user < "u3":
            assert live.client.post("/feedback", json=act | {"kind": "click"}).status_code == 200
    monkeypatch.chdir(PARAMS.parent)
    monkeypatch.setenv("RECLOOP_HOME", str(live.places.home))
    told = CliRunner().invoke(app, ["experiment", "report", "photos", "--json"])
    found = json.loads(told.stdout)
    assert found["people"] == dict(Counter(standing.arm_of(user) for user in PEOPLE))
    (line,) = found["lines"]
    clicked = [user for user in PEOPLE if standing.arm_of(user) == "now" and user < "u3"]
    assert line["gap"]["control"] == pytest.approx(len(clicked) / found["people"]["now"])
    assert line["gap"]["treatment"] == 1.0
    assert found["outcomes"] == {"new": "win"}


def test_who_asks_for_a_size_or_refuses_personalisation_meets_nothing(live):
    set_consent(live.engine, "shy", "personalisation", False)
    begin(live)
    live.ask("u1", k=4)
    live.ask("shy")
    assert exposed(live) == {}


@pytest.mark.parametrize("what", ["policy:new", "slot:green"])
def test_an_arm_that_names_who_serves(live, what):
    standing = begin(live, gives={"new": what})
    served = {user: live.ask(user).json()["policy"] for user in PEOPLE}
    assert served == {user: "new" if standing.arm_of(user) == "new" else "old" for user in PEOPLE}
    assert set(exposed(live)) == set(PEOPLE)


def test_it_rests_without_its_slot_and_while_a_rollout_tries_a_challenger(live, slots):
    begin(live, gives={"new": "policy:gone"})
    assert {live.ask(user).json()["policy"] for user in PEOPLE[:20]} == {"old"}
    catalogue.stop(live.engine, "photos", "test", "enough")
    begin(live, "again", gives={"new": "policy:new"})
    opened = rollout.begin(live.engine, "new", "test", "try")
    rollout.start_canary(live.engine, opened.id, "green", slots["green"], 0.5, "test", "go")
    live.settled(read_routing(live.engine)[0])
    routing = read_routing(live.engine)[1]
    for user in PEOPLE[:20]:
        assert live.ask(user).json()["policy"] == slots[routing.order(user)[0]].policy
    assert exposed(live) == exposed(live, "again") == {}


def test_a_stopped_experiment_changes_nothing_any_more(live):
    standing = begin(live)
    catalogue.stop(live.engine, "photos", "test", "enough")
    until(lambda: _sees(live, set()))
    user = next(user for user in PEOPLE if standing.arm_of(user) == "new")
    assert len(live.ask(user).json()["items"]) == 5
    assert exposed(live) == {}


def test_what_cannot_be_run_is_refused(live):
    begin(live, last=500)
    with pytest.raises(catalogue.Conflict, match=r"photos of layer 'main'.*use its layer"):
        catalogue.start(live.engine, planned("more", layer="other"), "test", "try")
    catalogue.start(live.engine, planned("beside", first=500), "test", "try")
    for gives in ({"now": "slate:0"}, {"now": "colour:red"}, {"gone": "slate:5"}, {"now": "slate:101"}):
        with pytest.raises(ValidationError):
            planned(gives=gives)
    with pytest.raises(ValidationError, match="not both"):
        planned(gives={"now": "slate:5", "new": "policy:new"})


def test_it_is_started_by_the_command(live, monkeypatch):
    monkeypatch.setenv("RECLOOP_HOME", str(live.places.home))
    words = ["start", "photos", "--people", "60", "--effect", "0.1", "--arm", "now=0.5", "--arm", "new=0.5"]
    done = CliRunner().invoke(app, ["experiment", *words, "--gives", "new=slate:8"])
    assert done.exit_code == 0, done.stderr
    assert catalogue.find(live.engine, "photos").experiment.gives == {"new": "slate:8"}
    wrong = CliRunner().invoke(app, ["experiment", *words, "--gives", "slate:8"])
    assert wrong.exit_code == 1
    assert "ARM=WHAT" in wrong.stderr

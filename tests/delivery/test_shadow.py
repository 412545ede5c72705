"""The shadow gets copies; whatever it does, people's answers and the log are as without it."""

import time
from dataclasses import replace

import httpx
import numpy as np
import pytest
from sqlalchemy import func, select

from recloop.delivery import Routing, Target, read_routing, rollout
from recloop.delivery.presence import gather
from recloop.delivery.shadow import UNDER_WAY
from recloop.delivery.shadow_gate import effect, shadow
from recloop.delivery.tally import Tally, shadow_figures, shadow_name
from recloop.schema import Slate
from recloop.store.tables import impressions
from tests.delivery.live import Live, until
from tests.delivery.standin import MODES
from tests.delivery.test_gates import RULES

PARAMS = RULES.model_copy(update={"shadow_share": 1.0, "shadow_requests": 50})


def shadowed(live, slots, share=1.0):
    opened = rollout.begin(live.engine, "new", "test", "try")
    rollout.start_shadow(live.engine, opened.id, "green", Target(slots[1].url, "new"), share, "test", "go")
    live.settled(read_routing(live.engine)[0])
    return opened


def figures(live, opened):
    """As the gates see them, up to a second late."""
    return shadow_figures(gather(live.engine, shadow_name(f"rollout-{opened.id}")).counts)


def logged_policies(live):
    with live.engine.connect() as connection:
        return set(connection.execute(select(impressions.c.policy).distinct()).scalars())


def test_copies_are_compared_and_never_shown_nor_logged(live, slots, monkeypatch):
    monkeypatch.setattr("recloop.delivery.shadow.UNDER_WAY", 20)
    opened = shadowed(live, slots)
    slates = [live.ask(f"u{n}", k=4).json() for n in range(20)]
    until(lambda: figures(live, opened).asked == 20)
    found = figures(live, opened)
    assert (found.failed, found.dropped, found.overlap) == (0, 0, 1.0)
    assert found.scores[0][0] == found.scores[1][0] == 20
    assert found.propensities[0] == found.propensities[1]
    assert all(side > 0 for side in (*found.p50_ms, *found.p99_ms))
    assert {slate["policy"] for slate in slates} == logged_policies(live) == {"old"}
    assert set(slots[1].seen()) >= {f"u{n}" for n in range(20)}
    with live.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(impressions)).scalar_one() == 80
    text = live.client.get("/metrics").text
    assert 'policy="new"' not in text, "the canary's figures begin with people"


def test_the_share_is_of_requests(live, slots):
    opened = shadowed(live, slots, share=0.4)
    for _ in range(100):
        live.ask("u", k=1)
    until(lambda: figures(live, opened).asked >= 20)
    assert 20 <= figures(live, opened).asked <= 60


@pytest.mark.usefixtures("hurried")
def test_a_shadow_that_hangs_is_given_up_and_people_get_the_champion_s_answer(live, slots):
    whatever_it_does(live, slots, "hang")


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("ok", "hang")])
def test_whatever_the_shadow_does_people_get_the_champion_s_answer(live, slots, mode):
    whatever_it_does(live, slots, mode)


def whatever_it_does(live, slots, mode):
    opened = shadowed(live, slots)
    slots[1].behave(mode)
    slates = [live.ask(f"v{n}").json() for n in range(5)]
    assert all((slate["policy"], slate["fallback"]) == ("old", False) for slate in slates)
    until(lambda: figures(live, opened).failed == 5)
    assert logged_policies(live) == {"old"}
    assert shadow(PARAMS.model_copy(update={"shadow_requests": 1}), figures(live, opened)).outcome == "fail"


def test_a_shadow_is_no_way_out_for_a_champion_that_fails(live, slots):
    shadowed(live, slots)
    slots[0].behave("error")
    slate = live.ask("u").json()
    assert (slate["policy"], slate["fallback"]) == ("fallback", True)
    both = {"blue": Target("http://a", "old"), "green": Target("http://b", "new")}
    assert Routing(both, "blue", shadow="green", shadow_share=1.0).order("u") == ["blue"]


def test_what_is_under_way_is_bounded(live, slots):
    opened = shadowed(live, slots)
    slots[1].behave("hang")
    before = len(slots[1].seen())
    for n in range(UNDER_WAY + 30):
        assert live.ask(f"w{n}").json()["policy"] == "old"
    until(lambda: figures(live, opened).dropped == 30)
    until(lambda: len(slots[1].seen()) == before + UNDER_WAY)
    assert figures(live, opened).asked == 0, "nobody waited for it: none has been given up yet"


def tallied():
    """100 copies, whose slates have half of the items in common and scores one apart."""
    well = Tally()
    for number in range(100):
        chance = 0.01 + number / 1000
        sides = [slate_of("ab", number + 1, chance), slate_of("bc", number, chance)]
        well.compare("r", *sides)
        well.copy("r", "ok", 0.004, 0.004)
    return well.snapshot()[shadow_name("r")]


def slate_of(items, score, chance):
    return Slate(
        request_id="r", items=list(items), titles=list(items), scores=[score] * 2,
        propensities=[chance] * 2, policy="p",
    )  # fmt: skip


SEEN = shadow_figures(tallied())
AT_ONE = {name: float(n == 3) * 100 for n, name in enumerate(SEEN.propensities[0])}


def test_a_sound_shadow_passes_with_its_figures():
    verdict = shadow(PARAMS, SEEN)
    assert verdict.outcome == "pass", verdict.why
    assert verdict.figures["overlap"] == 0.5
    assert verdict.figures["propensity_shift"] == pytest.approx(0, abs=1e-9)
    sd = np.arange(100).std(ddof=1)
    assert verdict.figures["score_effect"] == effect(SEEN) == pytest.approx(1 / sd)


@pytest.mark.parametrize(
    ("changes", "outcome", "word"),
    [
        ({"asked": 49}, "no-data", "49 of 50 copies"),
        ({"asked": 0, "p99_ms": (None, None), "overlap": None}, "no-data", "0 of 50"),
        ({"failed": 30}, "fail", "30 of 100 copies got no valid answer"),
        ({"failed": 2}, "no-data", "may be an accident"),
        ({"p99_ms": (900.0, 5.0)}, "fail", "within 900 ms"),
        ({"p99_ms": (float("inf"), 5.0)}, "fail", "within inf ms"),
        ({"p99_ms": (None, 5.0)}, "no-data", "no latency"),
        ({"p99_ms": (float("nan"), 5.0)}, "no-data", "no latency"),
        ({"overlap": None}, "no-data", "no answers"),
        ({"propensities": (AT_ONE, SEEN.propensities[1])}, "fail", "of another kind"),
        ({"propensities": ({}, SEEN.propensities[1])}, "no-data", "no answers"),
    ],
)
def test_the_gate_refuses_with_a_reason_and_lacking_data_never_passes(changes, outcome, word):
    verdict = shadow(PARAMS, replace(SEEN, **changes))
    assert (verdict.outcome, word in verdict.why) == (outcome, True), verdict.why
    assert outcome != "fail" or verdict.remedy


@pytest.mark.slow
@pytest.mark.usefixtures("hurried")
def test_people_wait_as_long_with_a_hanging_shadow_as_without(tmp_path, slots):
    """Interleaved rounds of requests by one client; prints the ratio of the 99th percentiles."""
    for slot in slots:
        slot.behave("ok")
    live = Live(tmp_path)
    rollout.install(live.engine, "blue", Target(slots[0].url, "old"), "test", "first")
    times: dict[bool, list[float]] = {False: [], True: []}
    with live, httpx.Client(base_url=live.url, timeout=60) as client:
        slots[1].behave("hang")
        for _ in range(12):
            for hangs in (False, True):
                opened = shadowed(live, slots) if hangs else None
                for n in range(250):
                    begun = time.perf_counter()
                    answer = client.post("/recommend", json={"user_id": f"u{n}"})
                    times[hangs].append(time.perf_counter() - begun)
                    assert answer.json()["policy"] == "old"
                if opened:
                    rollout.abort(live.engine, opened.id, "test", "next round")
                    live.settled(read_routing(live.engine)[0])
    without, hanging = (1000 * np.quantile(times[hangs], 0.99) for hangs in (False, True))
    print(f"\np99 {without:.2f} ms without, {hanging:.2f} ms with a hanging shadow: {hanging / without:.3f}")
    assert logged_policies(live) == {"old"}

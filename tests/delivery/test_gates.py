"""Gates on figures whose answer is known, and on logs that were written for the purpose."""

import numpy as np
import pytest

from recloop.delivery import Target, Verdict, decide, outcomes, rollout
from recloop.delivery.gates import canary, offline
from recloop.delivery.outcomes import worth
from recloop.delivery.tally import SlotFigures
from recloop.experiments import difference
from recloop.schema import Event, Impression, Item, now_us
from recloop.settings.params import DeliveryParams, RewardParams
from recloop.store import add_items, append, open_store

REWARD = RewardParams(view=0.1, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
RULES = DeliveryParams(
    canary_share=0.5, canary_requests=100, non_inferiority_margin=0.15, max_error_rate=0.01, max_p99_ms=500
)
WELL = SlotFigures(asked=1000, failed=0, p99_ms=20.0)


@pytest.fixture
def engine(store_url):
    engine = open_store(store_url)
    rollout.install(engine, "blue", Target("http://127.0.0.1:1", "old"), "test", "first")
    return engine


def begun(engine):
    opened = rollout.begin(engine, "new", "test", "try")
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_canary(engine, opened.id, "green", target, RULES.canary_share, "test", "go")
    return opened


def impression(request, user, policy, item="a", position=0, partial=False, ts=1):
    return Impression(
        request_id=request, position=position, user_id=user, item_id=item, propensity=0.5, policy=policy,
        partial=partial, ts=ts,
    )  # fmt: skip


def act(number, request, kind="click", item="a", value=1.0):
    return Event(
        event_id=f"e{number}", user_id="u", item_id=item, kind=kind, value=value, request_id=request, ts=2
    )


def browse(engine, policy, rate, people=60, requests=4, seed=1, newest=1):
    """People who click at a rate of their own around ``rate``; the last quarter at ``newest``."""
    rng = np.random.default_rng(seed)
    shown, acts = [], []
    for person in range(people):
        own = np.clip(rng.normal(rate, 0.05), 0, 1)
        for n in range(requests):
            request = f"{policy}-{person}-{n}"
            ts = newest if n == requests - 1 else 1
            shown.append(impression(request, f"{policy}-{person}", policy, ts=ts))
            if rng.random() < own:
                acts.append(act(request, request))
    append(engine, shown, acts)


def test_reward_is_that_of_the_request_and_item_that_an_act_names(engine):
    shown = [impression("r1", "u", "p", item, n) for n, item in enumerate("ab")]
    shown += [
        impression("r2", "u", "p"),
        impression("r3", "v", "q"),
        impression("r4", "v", "q", partial=True),
    ]
    acts = [
        act(1, "r1", "click", "a"), act(2, "r1", "purchase", "b"), act(3, "r1", "click", "not-shown"),
        act(4, "r2", "dismiss"), act(5, "r3", "rating", value=4.0), act(6, "r3", "rating", value=3.0),
        act(7, "nowhere", "purchase"), act(8, "r4", "purchase"), act(9, "r2", "view"),
    ]  # fmt: skip
    append(engine, shown, acts)
    found = outcomes(engine, REWARD)
    assert (found["p"].requests, found["q"].requests) == (2, 1)
    assert found["p"].people.totals.tolist() == pytest.approx([1 + 4 - 0.5 + 0.1])
    assert found["q"].people.totals.tolist() == [1.0]
    assert outcomes(engine, REWARD, since=3).keys() == {"q"}
    assert outcomes(engine, REWARD, until=3)["p"].requests == 2
    by_hand = sum(worth(a, REWARD) for a in acts if a.request_id == "r2" or a.event_id in ("e1", "e2"))
    assert by_hand == pytest.approx(4.6)


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [
        (0.1, 0.5, "pass"),
        (-0.1, 0.4, "pass"),
        (-0.2, 0.4, "no-data"),
        (-0.5, -0.01, "fail"),
        (-0.05, -0.01, "fail"),
    ],
)
def test_offline_compares_with_the_margin(low, high, outcome):
    figures = {"champion": 1.0, "challenger": 1.1, "low": low, "high": high}
    assert offline(figures, 0.15).outcome == outcome


def test_offline_without_a_champion_is_no_data():
    assert offline(None, 0.15).outcome == "no-data"


@pytest.mark.parametrize(
    ("outcomes_seen", "answer"),
    [
        (["pass", "pass"], "promote"),
        (["pass", "no-data"], "wait"),
        (["no-data", "fail"], "refuse"),
        (["pass", "fail"], "refuse"),
        ([], "wait"),
    ],
)
def test_no_data_never_promotes(outcomes_seen, answer):
    assert decide([Verdict("g", outcome, "") for outcome in outcomes_seen]) == answer


def test_a_better_challenger_passes_a_worse_one_fails(engine):
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert verdict.outcome == "pass", verdict.why
    assert verdict.figures["difference"] == pytest.approx(0.3, abs=0.1)


def test_a_worse_challenger_fails(engine):
    opened = begun(engine)
    browse(engine, "old", 0.6, seed=1)
    browse(engine, "new", 0.3, seed=2)
    assert canary(engine, opened, RULES, REWARD, WELL).outcome == "fail"


def test_bad_luck_that_a_fixed_interval_takes_for_harm_is_waited_out(engine):
    opened = begun(engine)
    browse(engine, "old", 0.50, seed=1)
    browse(engine, "new", 0.40, seed=4)
    found = outcomes(engine, REWARD)
    assert difference(found["old"].people, found["new"].people).high < 0
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert verdict.outcome == "no-data", verdict.why
    assert verdict.figures["high"] > 0


def test_requests_from_before_the_canary_do_not_count(engine):
    browse(engine, "old", 0.9)
    opened = begun(engine)
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert (verdict.outcome, verdict.figures["requests"]) == ("no-data", 0)
    assert verdict.figures["champion"] is None, "NaN is no JSON"


def test_too_few_requests_are_no_data_unless_they_fail(engine):
    opened = begun(engine)
    browse(engine, "old", 0.3, people=10)
    browse(engine, "new", 0.6, people=10)
    assert canary(engine, opened, RULES, REWARD, WELL).outcome == "no-data"
    broken = SlotFigures(asked=50, failed=25, p99_ms=20.0)
    assert canary(engine, opened, RULES, REWARD, broken).outcome == "fail"
    unlucky = SlotFigures(asked=50, failed=1, p99_ms=20.0)
    assert canary(engine, opened, RULES, REWARD, unlucky).outcome == "no-data"


def test_slowness_fallbacks_and_a_broken_split_do_not_pass(engine):
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    slow = canary(engine, opened, RULES, REWARD, SlotFigures(200, 0, float("inf")))
    assert (slow.outcome, slow.figures["p99_ms"]) == ("fail", None)
    browse(engine, "fallback", 0.3, people=5)
    assert "came from no slot" in canary(engine, opened, RULES, REWARD, WELL).why
    rollout.abort(engine, opened.id, "test", "again")
    opened = begun(engine)
    browse(engine, "old", 0.3, people=20, seed=3)
    append(engine, [impression(f"n{n}", f"n{n}", "new") for n in range(200)])
    assert "not the shares asked for" in canary(engine, opened, RULES, REWARD, WELL).why


@pytest.mark.parametrize(("asked", "outcome"), [(227, "no-data"), (228, "pass")])
def test_answers_that_no_gateway_tells_of_never_pass(engine, asked, outcome):
    """240 are in the log, of which 5 % may be those of the last second."""
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    verdict = canary(engine, opened, RULES, REWARD, SlotFigures(asked, 0, 20.0))
    assert (verdict.outcome, verdict.figures["requests"]) == (outcome, 240), verdict.why
    assert (f"tell of {asked} only" in verdict.why) == (outcome == "no-data")


@pytest.mark.parametrize(("ago", "outcome"), [(0.0, "pass"), (2.0, "pass"), (4.0, "no-data")])
def test_counts_that_lie_a_moment_behind_the_log_hold_up_nothing(engine, monkeypatch, ago, outcome):
    """Of 240 answers the gateways tell of 180; steady traffic always has some that are a moment old."""
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    now = now_us()
    browse(engine, "new", 0.6, seed=2, newest=now - round(ago * 1e6))
    monkeypatch.setattr("recloop.delivery.gates.now_us", lambda: now)
    verdict = canary(engine, opened, RULES, REWARD, SlotFigures(180, 0, 20.0))
    assert (verdict.outcome, verdict.figures["requests"]) == (outcome, 240), verdict.why


def test_a_guardrail_that_is_shown_to_get_worse_refuses_a_better_challenger(engine):
    opened, rules = begun(engine), RULES.model_copy(update={"guardrails": ("dismissals_per_request",)})
    free = REWARD.model_copy(update={"dismiss": 0.0})
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    assert canary(engine, opened, rules, free, WELL).outcome == "pass"
    some = [act(f"d{n}", f"new-{n}-{k}", "dismiss") for n in range(40) for k in range(4)]
    append(engine, acts=some)
    verdict = canary(engine, opened, rules, free, WELL)
    assert verdict.outcome == "fail"
    assert verdict.why.startswith("guardrail dismissals_per_request: challenger minus champion is within [0.")
    assert canary(engine, opened, RULES, free, WELL).outcome == "pass"


def test_people_who_come_less_often_are_a_guardrail_too(engine):
    opened, rules = begun(engine), RULES.model_copy(update={"guardrails": ("requests_per_person",)})
    browse(engine, "old", 0.3, requests=6, seed=1)
    browse(engine, "new", 0.6, people=120, requests=1, seed=2)
    rules = rules.model_copy(update={"canary_share": 0.7})
    verdict = canary(engine, opened, rules, REWARD, WELL)
    assert (verdict.outcome, "requests_per_person" in verdict.why) == ("fail", True), verdict.why


def shown(policy, person, category, device="phone"):
    return impression(f"{policy}-{person}", f"{policy}-{person}", policy, item=category).model_copy(
        update={"device": device}
    )


def test_answers_that_have_collapsed_are_refused_and_other_people_are_no_data(engine):
    kinds = [f"c{n}" for n in range(8)]
    add_items(engine, [Item(item_id=kind, title=kind, category=kind) for kind in kinds])
    opened = begun(engine)
    append(engine, [shown("old", n, kinds[n % 8]) for n in range(160)])
    append(engine, [shown("new", n, "c0") for n in range(160)])
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert (verdict.outcome, "category of the first item" in verdict.why) == ("fail", True), verdict.why
    assert verdict.figures["shift_actions"] > RULES.max_shift
    assert "max_shift" in verdict.remedy
    rollout.abort(engine, opened.id, "test", "again")
    opened = begun(engine)
    append(engine, [shown("old", f"b{n}", kinds[n % 8], "phone") for n in range(160)])
    append(engine, [shown("new", f"b{n}", kinds[n % 8], ("phone", "desktop")[n % 2]) for n in range(160)])
    verdict = canary(engine, opened, RULES, REWARD, WELL)
    assert (verdict.outcome, "differ by device" in verdict.why) == ("no-data", True), verdict.why


@pytest.mark.parametrize("p99", [None, float("nan")])
def test_a_latency_that_is_not_known_never_passes(engine, p99):
    opened = begun(engine)
    browse(engine, "old", 0.3, seed=1)
    browse(engine, "new", 0.6, seed=2)
    verdict = canary(engine, opened, RULES, REWARD, SlotFigures(200, 0, p99))
    assert (verdict.outcome, verdict.why) == ("no-data", "no latency was counted")


def test_a_step_without_anybody_else_never_passes(engine):
    """Not the early ones either, which ask for no harm only: nobody is there to compare with."""
    rules = RULES.model_copy(update={"canary_steps": (0.99,), "canary_share": 1.0, "step_requests": 5})
    opened = rollout.begin(engine, "new", "test", "try")
    target = Target("http://127.0.0.1:2", "new")
    rollout.start_canary(engine, opened.id, "green", target, 0.99, "test", "go", (1.0,))
    browse(engine, "new", 0.6, people=10)
    verdict = canary(engine, opened, rules, REWARD, WELL)
    assert (verdict.outcome, verdict.figures["champion"]) == ("no-data", None)
    browse(engine, "old", 0.6, people=1, requests=1)
    verdict = canary(engine, opened, rules, REWARD, WELL)
    assert (verdict.outcome, verdict.why) == ("no-data", "rewards of one of the arms are not known")

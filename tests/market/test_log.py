"""The generated log: its propensities, its times, and that it is the same every time."""

from collections import defaultdict

import numpy as np
import pytest

from recloop.market import GroundTruth
from recloop.market.log import BEHAVIOUR, SESSIONS, generate_log
from recloop.market.population import DAY_US, EPOCH_US
from recloop.schema import Event, Impression
from recloop.settings.params import MarketParams, RewardParams

REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
PARAMS = MarketParams(users=400, items=25, topics=8, horizon=12, slate=4, behaviour_temperature=1.0)
GAP_US = 30 * 60_000_000


def log(seed: int = 3) -> tuple[list[Impression], list[Event]]:
    shown: list[Impression] = []
    acts: list[Event] = []
    for impressions, events in generate_log(GroundTruth(PARAMS, REWARD, seed), seed):
        shown += impressions
        acts += events
    return shown, acts


@pytest.fixture(scope="module")
def logged() -> tuple[list[Impression], list[Event]]:
    return log()


def test_it_is_the_same_every_time(logged: tuple[list[Impression], list[Event]]) -> None:
    assert log() == logged
    assert log(4) != logged


def test_rows_are_what_the_edges_of_the_system_would_let_in(
    logged: tuple[list[Impression], list[Event]],
) -> None:
    shown, acts = logged
    for row in shown:
        Impression.model_validate(row.model_dump())
    assert {row.policy for row in shown} == {BEHAVIOUR}
    assert len({(row.request_id, row.position) for row in shown}) == len(shown)
    assert len({act.event_id for act in acts}) == len(acts)


def test_propensities_are_the_frequencies_of_the_draw(logged: tuple[list[Impression], list[Event]]) -> None:
    """The mean of 1 / p over what was drawn is the number of items that could be."""
    shown, _ = logged
    launch = np.sort(GroundTruth(PARAMS, REWARD, 3).offers.launch.numpy())
    for position in range(PARAMS.slate):
        rows = [row for row in shown if row.position == position]
        there = np.searchsorted(launch, [row.ts for row in rows], side="right")
        surplus = np.array([1 / row.propensity for row in rows if row.propensity]) - (there - position)
        assert surplus.mean() == pytest.approx(0, abs=4.5 * surplus.std() / len(rows) ** 0.5)


def test_nobody_comes_before_signing_up_and_nothing_is_shown_before_its_launch(
    logged: tuple[list[Impression], list[Event]],
) -> None:
    market = GroundTruth(PARAMS, REWARD, 3)
    launched = {item.item_id: item.created_at for item in market.items}
    joined = {user.user_id: user.created_at for user in market.users}
    assert 0 < sum(ts > EPOCH_US for ts in launched.values()) < len(launched) / 3
    assert 0 < sum(ts > EPOCH_US for ts in joined.values()) < len(joined) / 5
    for row in logged[0]:
        assert launched[row.item_id] <= row.ts
        assert joined[row.user_id] <= row.ts
    assert {row.item_id for row in logged[0]} == set(launched), "new items are shown too"


def test_a_slate_is_no_longer_than_the_catalogue() -> None:
    params = MarketParams(users=20, items=2, topics=2, horizon=3, slate=4, behaviour_temperature=1.0)
    sizes = {len(shown) for shown, _ in generate_log(GroundTruth(params, REWARD, 1), 1)}
    assert sizes
    assert all(size % 2 == 0 for size in sizes)


def test_sessions_lie_apart_and_within_two_weeks(logged: tuple[list[Impression], list[Event]]) -> None:
    moments = defaultdict(set)
    for row in logged[0]:
        moments[row.user_id].add(row.ts)
        assert EPOCH_US <= row.ts < EPOCH_US + 14 * DAY_US
    sessions = 0
    for found in moments.values():
        gaps = np.diff(sorted(found))
        assert ((gaps == 40_000_000) | (gaps > GAP_US)).all()
        sessions += 1 + (gaps > GAP_US).sum()
    assert len(moments) == PARAMS.users
    assert 1.5 * PARAMS.users < sessions < SESSIONS * PARAMS.users


def test_feedback_answers_an_item_of_its_request_and_a_purchase_follows_a_click(
    logged: tuple[list[Impression], list[Event]],
) -> None:
    slates: dict[str | None, dict[str, int]] = defaultdict(dict)
    for row in logged[0]:
        slates[row.request_id][row.item_id] = row.ts
    clicks = {act.request_id: act.ts for act in logged[1] if act.kind == "click"}
    purchases = [act for act in logged[1] if act.kind == "purchase"]
    assert purchases
    for act in logged[1]:
        assert slates[act.request_id][act.item_id] < act.ts < slates[act.request_id][act.item_id] + 40_000_000
    assert all(clicks[act.request_id] < act.ts for act in purchases)

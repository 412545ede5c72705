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
    for position in range(PARAMS.slate):
        inverse = np.array([1 / row.propensity for row in shown if row.position == position])
        tolerance = 4.5 * inverse.std() / len(inverse) ** 0.5
        assert inverse.mean() == pytest.approx(PARAMS.items - position, abs=tolerance)


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

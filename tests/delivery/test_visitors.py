"""Simulated people over real HTTP: what they do is what lands in the store."""

import torch
from sqlalchemy import select

from recloop.delivery import Target, outcomes, rollout
from recloop.delivery.visitors import Visitors
from recloop.market import Outcome
from recloop.store.tables import events, impressions
from tests.delivery.live import Live
from tests.delivery.standin import Standin


class Punctual:
    """A market without luck: everybody takes the second item; even people buy; all leave after three."""

    n_items = 20

    def __init__(self, count):
        self.requests, self.buyers = 0, torch.arange(count) % 2 == 0

    def step(self, slates):
        self.requests += 1
        self.shown = slates
        second = torch.ones(len(slates), dtype=torch.int64)
        return Outcome(
            second, self.buyers, 1.0 + 4.0 * self.buyers, torch.full((len(slates),), self.requests == 3)
        )


def test_every_act_is_stored_with_the_request_that_it_answers(tmp_path):
    people = [f"v{n}" for n in range(6)]
    with Standin("old") as slot:
        live = Live(tmp_path)
        rollout.install(live.engine, "blue", Target(slot.url, "old"), "test", "first")
        with live:
            market = Punctual(len(people))
            devices = ["phone", "tablet", "desktop"] * 2
            items = [f"i{n}" for n in range(20)]
            visit = Visitors(live.url, market, people, items, devices=devices).browse(1000)
    assert (visit.requests, visit.failed, visit.fallbacks) == (18, 0, 0)
    assert visit.rewards == {"old": [5.0, 1.0] * 9}
    assert market.shown.tolist() == [[0, 1, 2, 3, 4]] * 6
    found = outcomes(live.engine, live.params.reward)["old"]
    assert (found.requests, found.people.totals.tolist()) == (18, [15.0, 3.0] * 3)
    with live.engine.connect() as connection:
        held = dict(connection.execute(select(impressions.c.user_id, impressions.c.device)).tuples().all())
        assert held == dict(zip(people, devices, strict=True))
        shown = {
            tuple(row) for row in connection.execute(select(impressions.c.request_id, impressions.c.user_id))
        }
        acts = connection.execute(
            select(events.c.request_id, events.c.user_id, events.c.kind, events.c.item_id)
        )
        acts = [tuple(row) for row in acts]
    assert sorted(kind for _, _, kind, _ in acts) == ["click"] * 18 + ["purchase"] * 9
    assert {(request, user) for request, user, _, _ in acts} == shown
    assert {item for *_, item in acts} == {"i1"}


def test_people_without_a_slate_are_counted_and_leave(tmp_path):
    with Live(tmp_path, items=0) as live:
        visit = Visitors(live.url, Punctual(4), ["a", "b", "c", "d"], []).browse(100)
    assert (visit.requests, visit.failed, visit.rewards) == (4, 4, {})

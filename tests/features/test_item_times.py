"""No feature of an item tells of what came after the item's acts."""

import numpy as np
import polars as pl
import pytest

from recloop.evaluation.leakage import item_leaks
from recloop.features import Catalogue
from recloop.features.build import build_features
from recloop.features.item_times import date_items
from recloop.quality import validate
from recloop.schema import Event, Impression, Item, User
from recloop.settings.params import FeatureParams, RewardParams
from recloop.store import add_items, add_users, append, open_store, remove_items
from recloop.store.snapshot import watermark, write_snapshot

START = 1_700_000_000_000_000
HOUR = 3_600_000_000
PARAMS = FeatureParams(history=3, session_gap_minutes=30, test_share=0.5)
REWARD = RewardParams(view=0, click=1, cart=0.5, purchase=4, dismiss=-0.5, rating_positive=4)
OFFERS = [
    Item(item_id=name, title=name, category=category, price=price, created_at=START)
    for name, category, price in [("a", "x", 1.0), ("b", "y", None), ("c", "x", 3.0), ("d", "y", 5.0)]
]


class World:
    """A store whose people met items ``a`` to ``c`` at hours 1 to 3, and what comes of it."""

    def __init__(self, folder):
        self.folder, self.engine = folder, open_store(f"sqlite:///{folder}/s.db")
        add_items(self.engine, OFFERS, ts=START)
        add_users(self.engine, [User(user_id=f"u{n}", created_at=START) for n in range(12)])
        for n in range(12):
            met = {"request_id": f"r{n}", "user_id": f"u{n}", "ts": START + (1 + n % 3) * HOUR}
            shown = [
                Impression(position=p, item_id=item, propensity=None, policy="p", device="phone", **met)
                for p, item in enumerate("abc")
            ]
            act = {"event_id": f"e{n}", "item_id": "abc"[n % 3], "kind": "click"}
            append(self.engine, shown, [Event(**act, **met)])

    def change(self, hour, name, **values):
        """A new version of an item, from that hour on."""
        now = {offer.item_id: offer for offer in OFFERS}[name].model_copy(update=values)
        add_items(self.engine, [now], ts=START + int(hour * HOUR))

    def catalogue(self, name, dated=True):
        """The items' arrays as the stages make them, and how many items were described anew."""
        place = self.folder / name
        write_snapshot(self.engine, watermark(self.engine), place / "snapshot")
        validate(place / "snapshot", place / "valid", place / "quarantine", place / "docs", 0)
        count = date_items(place / "snapshot", place / "valid") if dated else 0
        build_features(place / "valid", place / "features", PARAMS, REWARD)
        return Catalogue.load(place / "features" / "items.npz"), count


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def items(world, name):
    return pl.read_parquet(world.folder / name / "valid" / "items.parquet").rows_by_key("item_id", named=True)


def test_a_change_after_its_acts_is_no_feature_and_is_caught_where_it_is(world):
    before, count = world.catalogue("before")
    assert count == 0
    world.change(5, "a", price=900.0, category="bestseller", attributes={"sold": 7.0}, text="sold often")
    world.change(5, "b", price=7.0)  # which had none
    leaking, _ = world.catalogue("leaking", dated=False)
    assert leaking.features.shape != before.features.shape, "the planted leak has columns of its own"
    after, count = world.catalogue("after")
    assert count == 2
    np.testing.assert_array_equal(after.groups, before.groups)
    assert item_leaks(after.features, before.features) == []
    assert items(world, "after")["a"][0]["price"] == 1.0
    assert items(world, "after")["b"][0]["price"] is None


def test_a_price_alone_that_leaks_is_caught_by_the_leak_check(world):
    before, _ = world.catalogue("before")
    world.change(5, "c", price=900.0)
    leaking, _ = world.catalogue("leaking", dated=False)
    (leak,) = item_leaks(leaking.features, before.features)
    assert leak.way == "items"
    after, _ = world.catalogue("after")
    assert item_leaks(after.features, before.features) == []


def test_the_version_that_held_at_the_first_act_counts(world):
    world.change(0.5, "a", price=2.0)
    world.change(2, "a", price=4.0)  # between its acts: later than the first
    world.catalogue("found")
    assert items(world, "found")["a"][0]["price"] == 2.0


def test_who_is_served_now_sees_what_is_offered_now(world):
    world.change(5, "a", title="a new title", available=False, price=9.0)
    world.change(5, "d", price=9.0, category="x")
    catalogue, count = world.catalogue("found")
    found = items(world, "found")
    assert (found["a"][0]["title"], found["a"][0]["price"]) == ("a new title", 1.0)
    assert catalogue.available.tolist() == [False, True, True, True]
    assert (found["d"][0]["price"], found["d"][0]["category"]) == (9.0, "x"), "nobody met it"
    assert count == 1


def test_items_that_came_later_than_their_log_are_as_in_their_first_version(world):
    offer = Item(item_id="late", title="late", price=1.0, created_at=START + 4 * HOUR)
    append(
        world.engine,
        acts=[Event(event_id="l", user_id="u1", item_id="late", kind="click", ts=START + HOUR)],
    )
    add_items(world.engine, [offer], ts=START + 4 * HOUR)
    add_items(world.engine, [offer.model_copy(update={"price": 2.0})], ts=START + 5 * HOUR)
    remove_items(world.engine, ["late"], ts=START + 6 * HOUR)
    world.catalogue("found")
    assert items(world, "found")["late"][0]["price"] == 1.0
    assert items(world, "found")["late"][0]["available"] is False

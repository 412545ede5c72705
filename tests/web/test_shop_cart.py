"""The shop's cart and orders over HTTP: only what a visitor saw is ordered, once."""

import re

import numpy as np
import pytest

from recloop.market.population import make_offers
from recloop.schema import Item
from recloop.schema.bilingual import TITLE, half
from recloop.store import add_items
from recloop.web.shop.texts import TEXTS
from tests.web.shop_browser import Shop, acts, put

OFFERS = make_offers(64, 8, np.random.default_rng(1)).records
FILM = Item(item_id="m1", title="Toy Story", category="Animation|Children's")
GONE = Item(item_id="g1", title="Old lesson · 예전 레슨", category="lessons", price=10.5, available=False)
KEPT = Item(item_id="t1", title="Kept · 남은 레슨", category="lessons", price=1000.0)
SOLD = Item(item_id="t2", title="Sold · 팔린 레슨", category="lessons", price=2000.0)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("home"), [*OFFERS, FILM, GONE, KEPT, SOLD], consent="required")
    with made.open():
        yield made


def test_an_item_without_price_text_and_picture_is_shown_and_can_be_ordered(shop, member):
    page = member.get("/talent/m1").text
    for name in ("no_price", "no_text"):
        assert TEXTS["en"][name] in page
    assert "Animation|Children&#39;s" in page
    assert member.get("/category/Animation%7CChildren's").status_code == 200
    member.post("/cart", data={"do": "add", "item": "m1"})
    assert TEXTS["en"]["no_price"] in member.get("/cart").text
    assert member.post("/order", data={"order": "n1"}).status_code == 303
    assert [(act.kind, act.value) for act in acts(shop, member)] == [("cart", 1.0), ("purchase", 1.0)]


def test_what_is_not_available_cannot_be_put_into_the_cart(shop, member):
    page = member.get("/talent/g1").text
    assert TEXTS["en"]["unavailable"] in page
    assert TEXTS["en"]["add"] not in page
    assert "₩10.50" in page
    assert member.post("/cart", data={"do": "add", "item": "g1"}).json()["field"] == "item"
    member.cookies.set("recloop_cart", "g1|")
    cart = member.get("/cart").text
    assert TEXTS["en"]["sold_out"] in cart, "what was put there while it was to be had is not lost sight of"
    assert TEXTS["en"]["order"] not in cart
    assert member.post("/order", data={"order": "n2"}).headers["location"] == "/cart?changed"
    assert acts(shop, member) == []


def fields_of(page, action):
    """The hidden fields of a page's form."""
    form = page.partition(f'action="{action}"')[2].partition("</form>")[0]
    return dict(re.findall(r'name="(\w+)" value="([^"]*)"', form))


def bought(shop, client):
    return [act.item_id for act in acts(shop, client) if act.kind == "purchase"]


def test_nothing_is_ordered_but_what_the_visitor_saw(shop, member):
    put(member, "t1")
    other_tab = fields_of(member.get("/cart").text, "/order")
    put(member, "t2")
    assert member.post("/order", data=other_tab).headers["location"] == "/cart?changed"
    assert bought(shop, member) == []
    page = member.get("/cart?changed").text
    assert TEXTS["en"]["cart_changed"] in page
    add_items(shop.engine, [SOLD.model_copy(update={"price": 99.0})])
    assert member.post("/order", data=fields_of(page, "/order")).headers["location"] == "/cart?changed", (
        "a price"
    )
    add_items(shop.engine, [SOLD])
    assert member.post("/order", data=fields_of(page, "/order")).headers["location"] == "/ordered"
    assert bought(shop, member) == ["t1", "t2"]


def test_an_item_that_is_sold_out_before_the_order_is_not_ordered_and_said_so(shop, member):
    put(member, "t1", "t2")
    form = fields_of(member.get("/cart").text, "/order")
    add_items(shop.engine, [SOLD.model_copy(update={"available": False})])
    assert member.post("/order", data=form).headers["location"] == "/cart?changed"
    page = member.get("/cart?changed").text
    assert page.count(TEXTS["en"]["sold_out"]) == 1
    assert "₩2,000" not in page.partition('class="panel sum"')[2], "the total is of what can be had"
    assert member.post("/order", data=fields_of(page, "/order")).headers["location"] == "/ordered"
    assert bought(shop, member) == ["t1"]
    assert member.cookies["recloop_cart"].strip('"') == "t2", "the other waits in the cart"
    assert member.post("/order", data={"order": "n9"}).headers["location"] == "/cart?changed", (
        "no second thanks"
    )
    add_items(shop.engine, [SOLD])
    assert TEXTS["en"]["order"] in member.get("/cart").text


def test_a_cart_that_is_full_loses_nothing(shop, member):
    names = [offer.item_id for offer in OFFERS[:20]]
    put(member, *names)
    put(member, names[3])
    assert member.post("/cart", data={"do": "add", "item": "t1"}).headers["location"] == "/cart?full"
    page = member.get("/cart?full").text
    assert TEXTS["en"]["cart_full"].format(most=20) in page
    assert page.count('class="line"') == 20
    assert "t1" not in [act.item_id for act in acts(shop, member)]


def test_who_lost_their_session_before_the_order_is_not_thanked(client):
    assert client.post("/order", data={"order": "n1"}).headers["location"] == "/cart"
    assert TEXTS["en"]["cart_empty"] in client.get("/cart").text


def test_an_order_that_is_sent_twice_is_one(shop, member):
    two = [offer.item_id for offer in OFFERS[:2]]
    for item in (*two, two[0]):
        member.post("/cart", data={"do": "add", "item": item, "request": "r9"})
    cart = member.cookies["recloop_cart"]
    for _ in range(2):
        member.cookies.set("recloop_cart", cart, domain="127.0.0.1")
        assert member.post("/order", data={"order": "n3"}).headers["location"] == "/ordered"
    found = acts(shop, member)
    assert [(act.kind, act.request_id) for act in found] == [("cart", "r9")] * 2 + [("purchase", "r9")] * 2
    assert sorted(act.value for act in found[2:]) == sorted(offer.price for offer in OFFERS[:2])
    member.cookies.delete("recloop_cart")
    for offer in OFFERS[:2]:
        assert half(offer.title, TITLE, "en") in member.get("/ordered").text

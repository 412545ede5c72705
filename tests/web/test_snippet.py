"""The storefront's script in a real browser, under a strict policy, against a real gateway."""

import time

import httpx
import pytest
from sqlalchemy import select
from starlette.responses import HTMLResponse
from starlette.routing import Route

from recloop.schema import Item, now_us
from recloop.settings import load_params, places
from recloop.store import add_items, open_store
from recloop.store.tables import events, quarantine
from recloop.web.app import create
from tests.delivery.live import until
from tests.web.shop_browser import NEEDS_CHROMIUM, chromium, listening  # noqa: F401
from tests.web.test_access import ROOT

POLICY = "default-src 'none'; script-src 'self'; connect-src 'self'"
PAGE = """<!DOCTYPE html><title>shop</title>
<script src="/recloop.js" defer data-request="r1" {}></script>
<ol data-request="r2"><li data-item="i2"><button id="open" data-kind="click"><b>Open</b></button>
<button id="cart" data-kind="cart">Cart</button>
<button id="buy" data-kind="purchase" data-value="12.5">Buy</button></ol>
<p id="off">not an item</p>"""
pytestmark = NEEDS_CHROMIUM


def show(request):
    attributes = " ".join(f'data-{name}="{value}"' for name, value in request.query_params.items())
    return HTMLResponse(PAGE.format(attributes), headers={"content-security-policy": POLICY})


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    where = places(home=tmp_path_factory.mktemp("home"), store_url="", token="t")
    engine = open_store(where.store)
    add_items(engine, [Item(item_id=f"i{n}", title=f"Item {n}") for n in range(3)])
    app = create(where, load_params(ROOT / "params.yaml"))
    app.router.routes.append(Route("/shop", show))
    with listening(Free(app)) as url:
        yield url, engine


class Free:
    """Lets the page of the test, which the gateway does not know, pass its guard."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        inner = self.app.router if scope.get("path") == "/shop" else self.app
        await inner(scope, receive, send)


@pytest.fixture
def browser(chromium):  # noqa: F811
    """A page of a visitor of its own."""
    context = chromium.new_context()
    yield context.new_page()
    context.close()


def acts(engine, since=0):
    with engine.connect() as connection:
        return connection.execute(select(events).where(events.c.seq > since).order_by(events.c.seq)).all()


def last(engine):
    return acts(engine)[-1].seq if acts(engine) else 0


def test_the_script_is_small_cached_and_open_to_other_origins(shop):
    answer = httpx.get(f"{shop[0]}/recloop.js")
    assert len(answer.content) <= 2000
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["cache-control"].startswith("public, max-age=3600")
    assert answer.headers["cross-origin-resource-policy"] == "cross-origin"
    tag = {"if-none-match": answer.headers["etag"]}
    again = httpx.get(f"{shop[0]}/recloop.js", headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == answer.headers["cache-control"]


def test_views_dwell_clicks_cart_and_purchase_arrive(shop, browser):
    url, engine = shop
    begun, seq = now_us(), last(engine)
    browser.goto(f"{url}/shop?item=i1&person=p7")
    for name in ("open b", "cart", "buy", "off"):
        browser.evaluate(f"document.querySelector('#{name}').click()")
    browser.evaluate("recloop('dismiss', 'i0', undefined, 'r3')")
    time.sleep(1.2)
    browser.goto("about:blank")
    until(lambda: len(acts(engine, seq)) == 6)
    found = acts(engine, seq)
    assert [(act.kind, act.item_id, act.request_id) for act in found] == [
        ("view", "i1", "r1"),
        ("click", "i2", "r2"),
        ("cart", "i2", "r2"),
        ("purchase", "i2", "r2"),
        ("dismiss", "i0", "r3"),
        ("dwell", "i1", "r1"),
    ]
    assert {act.user_id for act in found} == {"p7"}
    assert {act.traffic for act in found} == {"bot"}, "a browser without a window says so"
    assert found[3].value == 12.5
    assert 1.2 <= found[5].value < 30
    assert all(begun - 10**6 < act.ts <= act.received <= now_us() and act.skew == 0 for act in found)
    with engine.connect() as connection:
        assert connection.execute(select(quarantine)).all() == []


STORED = "document.cookie + localStorage.length + sessionStorage.length"


def test_without_consent_nothing_is_stored_and_nobody_is_known_again(shop, browser):
    url, engine = shop
    seq = last(engine)
    for _ in range(2):
        browser.goto(f"{url}/shop?item=i1")
        browser.evaluate("document.querySelector('#open').click()")
        assert browser.evaluate(STORED) == "00"
        browser.goto("about:blank")
    until(lambda: len(acts(engine, seq)) == 6)
    people = [act.user_id for act in acts(engine, seq)]
    assert len(set(people)) == 2
    assert all(person.startswith("anon.") for person in people)
    assert httpx.get(f"{url}/recloop.js").headers.get("set-cookie") is None


def test_with_consent_a_pseudonym_stays_until_it_is_withdrawn(shop, browser):
    url, engine = shop
    seq = last(engine)
    browser.goto(f"{url}/shop?item=i1")
    browser.evaluate("recloop.consent(true)")
    known = browser.evaluate("localStorage.recloop")
    browser.goto(f"{url}/shop?item=i1&consent=")
    browser.evaluate("document.querySelector('#open').click()")
    browser.evaluate("recloop.consent(false)")
    assert browser.evaluate(STORED) == "00"
    browser.evaluate("document.querySelector('#cart').click()")
    browser.goto("about:blank")
    until(lambda: len(acts(engine, seq)) == 6)
    people = {act.kind: act.user_id for act in acts(engine, seq) if act.kind in ("click", "cart")}
    assert people["click"] == known
    assert known.startswith("w-")
    assert people["cart"].startswith("anon.")


@pytest.mark.slow
def test_what_cannot_be_delivered_waits_and_is_delivered_once(shop, browser):
    url, engine = shop
    seq = last(engine)
    browser.goto(f"{url}/shop?person=p8")
    fails = "window.real = fetch; window.fetch = () => Promise.reject(); 1"
    browser.evaluate(fails)
    browser.evaluate("document.querySelector('#open').click()")
    time.sleep(1.3)
    assert acts(engine, seq) == []
    browser.evaluate("window.fetch = window.real; 1")
    browser.evaluate("document.querySelector('#cart').click()")
    until(lambda: len(acts(engine, seq)) == 2)
    browser.goto("about:blank")
    assert [act.kind for act in acts(engine, seq)] == ["click", "cart"]

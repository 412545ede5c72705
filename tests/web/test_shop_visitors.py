"""People in the shop, in a real browser: without consent, new, returning; and what the store has of them."""

import json

import numpy as np
import pytest
from playwright.sync_api import expect
from sqlalchemy import func, select

from recloop.market.population import make_offers
from recloop.schema import Item
from recloop.store.tables import consents, events, exposures, impressions, persons, quarantine, users
from recloop.web.shop.texts import TEXTS
from tests.delivery.live import until
from tests.serving.conftest import folder  # noqa: F401
from tests.web.dashboard_browser import sticking_out
from tests.web.shop_browser import DESKTOP, NEEDS_CHROMIUM, PHONE, Shop, chromium, visit  # noqa: F401

NASTY = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'"
TITLES = [NASTY, "로고 디자인", "Third", "Fourth", "Fifth", "Sixth"]
SAY = TEXTS["en"]
PERSONAL = (impressions, events, users, exposures, persons, quarantine)
PAGES = ("/", "/search", "/category/lessons", "/talent/t00003", "/talent/i0", "/cart", "/ordered", "/privacy")
pytestmark = NEEDS_CHROMIUM


@pytest.fixture(scope="module")
def shop(tmp_path_factory, folder):  # noqa: F811
    """The policy knows i0 to i5, of which i2 is not to be had, and values what a person clicked."""
    known = [
        Item(
            item_id=f"i{n}",
            title=title,
            category=NASTY[:28],
            price=1000 * (n + 1),
            text=NASTY,
            available=n != 2,
        )
        for n, title in enumerate(TITLES)
    ]
    offers = make_offers(40, 8, np.random.default_rng(1)).records
    made = Shop(tmp_path_factory.mktemp("home"), [*known, *offers], folder, consent="required")
    with made.open():
        yield made


def count(shop, *tables):
    with shop.engine.connect() as connection:
        return [connection.execute(select(func.count()).select_from(table)).scalar_one() for table in tables]


def rows(shop, table, person):
    query = select(table).where(table.c.user_id == person).order_by(*table.primary_key)
    with shop.engine.connect() as connection:
        return connection.execute(query).all()


def agree(page, shop, *purposes):
    """Choose on the start page; the pseudonym."""
    page.goto(shop.url)
    for purpose in purposes:
        page.check(f"#{purpose}")
    go(page, page.locator("button[value=made]"))
    return cookie(page, "recloop_person")


def go(page, what):
    """Click what leads to another page, and wait until that is there."""
    with page.expect_navigation():
        what.click()


def cookie(page, name):
    return next((one["value"] for one in page.context.cookies() if one["name"] == name), None)


def open_first(page):
    """Follow the first suggestion; its item and the request that showed it."""
    card = page.locator("#slate [data-item]").first
    found = card.get_attribute("data-item"), page.locator("#slate").get_attribute("data-request")
    card.locator("a.over").click()
    page.wait_for_url("**/talent/*")
    return found


def test_a_visitor_without_consent_can_do_everything_and_leaves_nothing(shop, chromium):  # noqa: F811
    with visit(chromium) as page:
        addresses = []
        page.on("framenavigated", lambda frame: addresses.append(frame.url))
        before, said = count(shop, *PERSONAL), count(shop, consents)
        page.goto(shop.url)
        assert page.context.cookies() == []
        page.fill("#q", "lessons")
        page.press("#q", "Enter")
        page.locator("#found a.over").first.click()
        page.wait_for_url("**/talent/*")
        go(page, page.get_by_role("button", name=SAY["add"]))
        expect(page.get_by_text(SAY["order_not_kept"])).to_be_visible()
        go(page, page.get_by_role("button", name=SAY["order"]))
        expect(page.get_by_role("heading", name=SAY["ordered_title"])).to_be_visible()
        page.goto(shop.url)
        go(page, page.get_by_role("button", name=SAY["consent_none"]))
        assert page.locator("#consent").count() == 0, "who said no is not asked again"
        person = cookie(page, "recloop_person")
        assert [word.granted for word in rows(shop, consents, person)] == [False] * 4
        assert page.locator("#slate li").count() == 5
        expect(page.get_by_text(SAY["anonymous"])).to_be_visible()
        assert page.locator("script[src='/recloop.js']").count() == 0
        open_first(page)
        expect(page.get_by_text(SAY["rate_needs"])).to_be_visible()
        page.wait_for_timeout(1200)  # the script would have sent something by now
        assert count(shop, *PERSONAL) == before
        assert count(shop, consents) == [said[0] + 4]
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie") == "0"
        assert not any(
            person in address or "t000" in address.partition("/talent/")[0] for address in addresses
        )


def test_a_new_member_is_met_personally_and_what_they_do_is_kept(shop, chromium):  # noqa: F811
    with visit(chromium) as page:
        addresses = []
        page.on("framenavigated", lambda frame: addresses.append(frame.url))
        person = agree(page, shop, "service", "personalisation")
        assert page.locator("#for-you").inner_text() == f"{SAY['for_you']} {SAY['personal_badge']}"
        expect(page.get_by_text(SAY["cold"])).to_be_visible()
        item, request = open_first(page)
        assert {row.request_id for row in rows(shop, impressions, person)} == {request}
        until(lambda: {"click", "view"} <= {act.kind for act in rows(shop, events, person)})
        go(page, page.get_by_role("button", name=SAY["rate_star"].format(stars=4)))
        expect(page.get_by_text(SAY["rated"].format(stars=4))).to_be_visible()
        go(page, page.get_by_role("button", name=SAY["add"]))
        go(page, page.get_by_role("button", name=SAY["order"]))
        page.get_by_role("heading", name=SAY["ordered_title"]).wait_for()
        kinds = ("click", "view", "rating", "cart", "purchase")
        found = {act.kind: act for act in rows(shop, events, person) if act.kind in kinds}
        assert found.keys() == set(kinds)
        assert {(act.item_id, act.request_id) for act in found.values()} == {(item, request)}
        assert (found["rating"].value, found["purchase"].value) == (4.0, 1000.0 * (int(item[1]) + 1))
        assert {found[kind].traffic for kind in ("rating", "cart", "purchase")} == {None}
        assert [row.granted for row in rows(shop, consents, person)] == [True, True, False, False]
        assert count(shop, quarantine) == [0]
        assert not any(person in address or "recloop_" in address for address in addresses)
        assert page.evaluate("localStorage.length + sessionStorage.length + document.cookie") == "0"


def test_what_a_returning_buyer_did_changes_the_next_suggestions(shop, chromium):  # noqa: F811
    with visit(chromium, viewport=PHONE) as page:
        person = agree(page, shop, "service", "personalisation")
        page.goto(f"{shop.url}/category/{NASTY[:28].replace('<', '%3C').replace('>', '%3E')}")
        go(page, page.locator("[data-item=i1] a.over"))
        until(lambda: any(act.kind == "click" for act in rows(shop, events, person)))
        first = []
        for _ in range(8):
            page.goto(shop.url)
            first.append(page.locator("#slate [data-item]").first.get_attribute("data-item"))
        expect(page.get_by_text(SAY["personal"], exact=True)).to_be_visible()
        assert first.count("i1") >= 3, "nine times in ten, as the policy values it"
        go(page, page.locator("#slate [data-item]").first.get_by_role("link", name=SAY["why"]))
        expect(page.get_by_text("It looked at your profile")).to_be_visible()


def test_what_is_dismissed_goes_and_stays_away(shop, chromium):  # noqa: F811
    with visit(chromium) as page:
        person = agree(page, shop, "service", "personalisation")
        card = page.locator("#slate [data-item]").first
        item, address = card.get_attribute("data-item"), page.url
        title = card.locator("h3").inner_text()
        card.get_by_role("button").click()
        page.locator("#said", has_text=SAY["dismissed"].format(title=title)).wait_for()
        assert page.url == address
        assert page.locator(f"[data-item={item}]").count() == 0
        assert page.evaluate("document.activeElement.closest('[data-item]') !== null"), (
            "the focus is not lost"
        )
        assert [(act.kind, act.item_id) for act in rows(shop, events, person)] == [("dismiss", item)]
        page.context.clear_cookies(name="recloop_hidden")  # another visit
        for _ in range(5):
            page.goto(shop.url)
            assert page.locator(f"[data-item={item}]").count() == 0
            assert page.locator("#slate li").count() == 4
        go(page, page.get_by_role("button", name=SAY["switch_off"]))
        expect(page.get_by_text(SAY["anonymous"], exact=True)).to_be_visible()
        assert rows(shop, consents, person)[-1].purpose == "personalisation"


def test_without_javascript_all_forms_work(shop, chromium):  # noqa: F811
    with visit(chromium, "ko-KR", java_script_enabled=False) as page:
        person = agree(page, shop, "service")
        item = page.locator("#slate [data-item]").first.get_attribute("data-item")
        go(page, page.locator("#slate [data-item]").first.get_by_role("button"))
        assert page.locator(f"[data-item={item}]").count() == 0
        page.goto(f"{shop.url}/talent/t00003")
        go(page, page.get_by_role("button", name=TEXTS["ko"]["add"]))
        go(page, page.get_by_role("button", name=TEXTS["ko"]["order"]))
        go(page, page.get_by_role("button", name=TEXTS["ko"]["rate_star"].format(stars=5)))
        assert [act.kind for act in rows(shop, events, person)] == ["dismiss", "cart", "purchase", "rating"]


def test_a_person_takes_their_data_along_and_has_it_erased(shop, chromium):  # noqa: F811
    with visit(chromium) as page, visit(chromium) as other:
        person, stays = agree(page, shop, "service"), agree(other, shop, "service")
        page.goto(f"{shop.url}/privacy")
        with page.expect_download() as saved:
            page.get_by_role("button", name=SAY["export"]).click()
        found = json.loads(saved.value.path().read_text())
        assert {row["user_id"] for row in found["impressions"]} == {person}
        assert [row["purpose"] for row in found["consents"] if row["granted"]] == ["service"]
        page.get_by_role("button", name=SAY["erase"]).click()
        assert page.url.endswith("/privacy"), "the box comes first"
        page.check("#sure")
        go(page, page.get_by_role("button", name=SAY["erase"]))
        page.get_by_role("heading", name=SAY["erased_title"]).wait_for()
        assert len(page.locator("main code").inner_text()) == 32
        assert cookie(page, "recloop_person") is None
        assert rows(shop, impressions, person) == rows(shop, events, person) == []
        assert len(rows(shop, impressions, stays)) == 5


@pytest.mark.parametrize(
    "path", ["/", "/talent/i0", "/cart", "/search?q=%3Cscript%3Ealert(3)%3C/script%3E%22%27"]
)
def test_titles_texts_categories_and_searches_stay_text(shop, chromium, path):  # noqa: F811
    with visit(chromium) as page:
        agree(page, shop, "service", "personalisation")
        page.goto(f"{shop.url}/talent/i0")
        go(page, page.get_by_role("button", name=SAY["add"]))
        answer = page.goto(f"{shop.url}{path}")
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")
        said = "alert(3)" if "q=" in path else NASTY[:28]
        assert said in page.locator("main").inner_text()
        assert page.locator("main script, main img, main [onerror]").count() == 0


@pytest.mark.parametrize("width", [320, 360, 768])
def test_no_page_is_wider_than_the_screen(shop, chromium, width):  # noqa: F811
    for language in ("en", "ko-KR"):
        with visit(chromium, language, {"width": width, "height": 700}) as page:
            agree(page, shop, "service", "personalisation")
            page.goto(f"{shop.url}/talent/t00003")
            go(page, page.locator("form[action='/cart'] button"))
            for path in PAGES:
                page.goto(f"{shop.url}{path}")
                wide, here = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
                assert wide <= here, (path, language)


@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ko-KR"])
def test_no_text_is_cut_off_however_narrow_or_large(shop, chromium, language):  # noqa: F811
    with visit(chromium, language) as page:
        agree(page, shop, "service", "personalisation")
        page.goto(f"{shop.url}/talent/t00003")
        go(page, page.locator("form[action='/cart'] button"))
        for path in (*PAGES, "/search?q=" + "veryLongWord" * 16, "/why?request=r&item=i0"):
            page.goto(f"{shop.url}{path}")
            for width in (360, 390, 768):
                page.set_viewport_size({"width": width, "height": 844})
                for size in ("", "200%") if width < 400 else ("",):
                    page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
                    assert "\n".join(sticking_out(page, ".chips")) == "", (path, width, size)


def test_a_buyer_with_two_tabs_and_the_back_button_orders_once_and_what_they_saw(shop, chromium):  # noqa: F811
    with visit(chromium) as page:
        person = agree(page, shop, "service")
        page.goto(f"{shop.url}/talent/t00004")
        go(page, page.get_by_role("button", name=SAY["add"]))
        tab = page.context.new_page()
        tab.goto(f"{shop.url}/talent/t00005")
        go(tab, tab.get_by_role("button", name=SAY["add"]))
        go(page, page.get_by_role("button", name=SAY["order"]))
        expect(page.get_by_role("alert")).to_have_text(SAY["cart_changed"])
        assert page.locator(".line").count() == 2
        page.get_by_role("button", name=SAY["order"]).dblclick(no_wait_after=True)
        page.get_by_role("heading", name=SAY["ordered_title"]).wait_for()
        page.go_back()
        expect(page.get_by_text(SAY["cart_empty"])).to_be_visible()
        tab.goto(f"{shop.url}/cart")
        expect(tab.get_by_text(SAY["cart_empty"])).to_be_visible()
        found = [act.item_id for act in rows(shop, events, person) if act.kind == "purchase"]
        assert sorted(found) == ["t00004", "t00005"]


def test_the_keyboard_finds_the_content_first(shop, chromium):  # noqa: F811
    with visit(chromium) as page:
        page.goto(shop.url)
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == SAY["skip"]
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"


@pytest.mark.slow
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ko-KR"])
def test_axe_finds_nothing_serious(shop, chromium, language, scheme, viewport):  # noqa: F811
    from axe_playwright_python.sync_playwright import Axe

    with visit(chromium, language, viewport, color_scheme=scheme) as page:
        page.goto(shop.url)
        found = grave(Axe().run(page), "/ before the choice")
        agree(page, shop, "service", "personalisation")
        why = page.locator("#slate a[href^='/why']").first.get_attribute("href")
        page.goto(f"{shop.url}/talent/t00003")
        go(page, page.locator("form[action='/cart'] button"))
        for path in (*PAGES, "/search?q=zzz", "/talent/nothing", why):
            page.goto(f"{shop.url}{path}")
            found += grave(Axe().run(page), path)
        page.goto(f"{shop.url}/cart")
        go(page, page.locator("form[action='/order'] button"))
        found += grave(Axe().run(page), "/ordered with an order")
    assert found == []


def grave(results, path):
    return [
        (path, one["id"], [node["html"] for node in one["nodes"]][:3])
        for one in results.response["violations"]
        if one["impact"] in ("serious", "critical")
    ]

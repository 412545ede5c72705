"""Operators at the dashboard, in a real Chromium, before a real gateway with a real controller."""

import httpx
import pytest
from playwright.sync_api import expect

from recloop.delivery import Target, Verdict, rollout
from recloop.settings.tokens import add_token
from recloop.web.dashboard.texts import TEXTS
from tests.delivery.live import TOKEN, Live, until
from tests.delivery.standin import Standin
from tests.web.dashboard_browser import (
    CHROMIUM,
    NASTY,
    SHAPES,
    chromium,
    controlled,
    faults,
    opened_page,
    roles,
    sticking_out,
    stocked,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
]
WAITS = Verdict("canary", "no-data", f"too few people so far {NASTY}", {"requests": 12, "p99_ms": 38.1})


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def slots():
    with Standin("slateq-17f6907281") as blue, Standin(NASTY[:60]) as green:
        yield blue, green


@pytest.fixture(scope="module")
def shop(tmp_path_factory, slots):
    """A gateway with all that the panels show."""
    home = tmp_path_factory.mktemp("shop")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        live = Live(home / "home")
        live.request_id = stocked(live, home / "reports")
        rollout.install(live.engine, "blue", Target(slots[0].url, "slateq-17f6907281"), "test", "first")
        with live:
            yield live


@pytest.fixture
def number(shop, slots):
    """A rollout that a controller drives, in its first canary step; the challenger's name is nasty too."""
    with controlled(shop, slots[1].url, NASTY[:60], WAITS) as number:
        until(lambda: rollout.find(shop.engine, number).state == "canary")
        yield number
    if rollout.find(shop.engine, number).state == "promoted":
        rollout.roll_back(shop.engine, "test", "for the next")


def served(shop):
    return {shop.ask(f"v{n}").json()["policy"] for n in range(40)}


def operate(page, action, why, token=None):
    if token:
        page.get_by_label("Token with the scope operate").fill(token)
    page.get_by_label("Reason, kept with the step").fill(why)
    page.get_by_role("button", name=action).click()


def test_an_operator_promotes(shop, browser, number):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.locator("#status")).to_have_text("Live")
    expect(page.locator(".stage.now")).to_contain_text("canary 1")
    operate(page, "Pause", "", TOKEN)
    expect(page.locator("#answer")).to_have_text("Write the reason first: it is kept with the step.")
    operate(page, "Pause", "to look closer")
    expect(page.locator("#answer")).to_have_text(f"Rollout {number} is now: paused.")
    operate(page, "Resume", "well enough")
    expect(page.locator("#answer")).to_have_text(f"Rollout {number} is now: canary.")
    operate(page, "Next step", "on")
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator(".stage.now")).to_contain_text("canary 5")
    operate(page, "Promote to everybody", "people like it")
    page.get_by_role("button", name="No", exact=True).click()
    assert rollout.find(shop.engine, number).state == "canary", "No is no"
    page.get_by_role("button", name="Promote to everybody").click()
    page.get_by_role("button", name="Yes, do it").click()
    expect(page.locator("#news")).to_have_text(f"Rollout {number} is now: promoted")
    expect(page.get_by_role("button", name="Roll back")).to_be_visible()
    until(lambda: served(shop) == {NASTY[:60]})
    last = rollout.transitions_of(shop.engine, number, 1)[0]
    assert (last.target, last.who, last.why) == ("promoted", "environment (dashboard)", "people like it")
    assert page.evaluate("window.hacked") is None
    assert page.problems == []


def test_an_operator_aborts_by_keyboard_alone(shop, browser, number):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.get_by_role("button", name="Abort")).to_be_visible()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "token":
            break
    page.keyboard.type(TOKEN)
    for _ in range(3):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "why":
            break
    page.keyboard.type("harm")
    for _ in range(6):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.action") == "abort":
            break
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "no", "the harmless answer is the first"
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#answer")).to_have_text(f"Rollout {number} is now: aborted.")
    expect(page.locator("#idle")).to_be_visible()
    until(lambda: served(shop) == {"slateq-17f6907281"})
    assert page.problems == []


def test_who_may_not_is_told_in_words(shop, browser, number):
    reader = add_token(shop.places.token_list, f"reader{number}", ["read"])
    page = opened_page(browser, f"{shop.url}/dashboard?lang=ko")
    for token, words in (("wrong", "알 수 없는 토큰"), (reader, "operate 권한이 없습니다")):
        page.locator("#token").fill(token)
        page.locator("#why").fill("왜")
        page.locator('[data-action="pause"]').click()
        expect(page.locator("#answer")).to_contain_text(words)
    assert page.evaluate("sessionStorage.length") == 0
    assert rollout.find(shop.engine, number).state == "canary"


def test_what_was_seen_before_it_moved_on_is_not_acted_on(shop, browser, number):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.locator("[data-panel=rollout]")).to_contain_text(f"Rollout {number}:")
    expect(page.locator(".stage.now")).to_contain_text("canary 1")
    page.get_by_role("button", name="Hold still").click()
    rollout.grow(shop.engine, number, 1, "somebody else", "on")
    operate(page, "Pause", "too late", TOKEN)
    expect(page.locator("#answer")).to_contain_text("Nothing was changed: the rollout has moved on")
    assert rollout.find(shop.engine, number).state == "canary"
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(".stage.now")).to_contain_text("canary 5")


def test_an_opened_detail_and_the_focus_stay_when_a_panel_changes(shop, browser, number):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.locator("[data-panel=rollout]")).to_contain_text(f"Rollout {number}:")
    page.locator('[data-key="gate-canary"] summary').press("Enter")
    expect(page.locator('[data-key="gate-canary"][open]')).to_have_count(1)
    page.evaluate("document.querySelector('[data-key=gate-canary]').dataset.old = 1")
    until(lambda: not page.locator("[data-old]").count())
    assert page.locator('[data-key="gate-canary"][open]').count() == 1
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"


@pytest.mark.usefixtures("number")
@pytest.mark.parametrize("language", ["en", "ko"])
@pytest.mark.parametrize("shape", SHAPES)
def test_anybody_can_use_it(shop, browser, shape, language):
    page = opened_page(browser, f"{shop.url}/dashboard?lang={language}", shape)
    expect(page.locator("[data-panel=said] .answers")).to_be_visible()
    expect(page.locator("[data-panel=drift] table")).to_be_visible()
    page.locator("[data-key=gate-canary] summary").click()
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "nothing sticks out"
    for path in (f"request/{shop.request_id}", "request/nobody"):
        page.goto(f"{shop.url}/dashboard/{path}?lang={language}")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.evaluate("window.hacked") is None
    assert [said for said in page.problems if "404" not in said] == []


@pytest.mark.usefixtures("number")
@pytest.mark.parametrize("language", ["en", "ko"])
def test_nothing_sticks_out_or_is_cut_off_however_narrow_or_large(shop, browser, language):
    """360 to 1280 pixels, and texts of twice the size."""
    page = opened_page(browser, f"{shop.url}/dashboard?lang={language}", "phone")
    for path in ("", f"/request/{shop.request_id}", "/request/nobody"):
        page.goto(f"{shop.url}/dashboard{path}?lang={language}")
        if not path:
            expect(page.locator("[data-panel=said] .answers")).to_be_visible()
            expect(page.locator("[data-panel=experiments] table")).to_be_visible()
            expect(page.locator("[data-panel=drift] table")).to_be_visible()
            expect(page.locator("[data-panel=now] .chart").first).to_be_visible()
        for width in (360, 390, 768, 1280):
            page.set_viewport_size({"width": width, "height": 844})
            for size in ("", "200%"):
                page.evaluate("size => { document.documentElement.style.fontSize = size }", size)
                assert "\n".join(sticking_out(page)) == "", (path, width, size)
            page.evaluate("document.documentElement.style.fontSize = ''")


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_table_is_one_for_a_screen_reader_at_any_width(shop, browser, language):
    page = opened_page(browser, f"{shop.url}/dashboard?lang={language}")
    expect(page.locator("[data-panel=experiments] table")).to_be_visible()
    expect(page.locator("[data-panel=drift] table")).to_be_visible()
    page.locator("#hold").click()
    found, last = [], page.locator("[data-panel=experiments] td").nth(4)
    for width, display in ((1280, "table-cell"), (360, "grid")):
        page.set_viewport_size({"width": width, "height": 844})
        assert last.evaluate("e => getComputedStyle(e).display") == display
        label = last.evaluate("e => getComputedStyle(e, '::before').content")
        assert (TEXTS[language]["difference"] in label) == (width == 360), "each cell says what it is"
        told = roles(page)
        found.append({role: told[role] for role in ("table", "row", "columnheader", "cell")})
    assert found[0] == found[1]
    assert found[0]["columnheader"] > 20
    assert found[0]["table"] >= 6


def test_what_people_and_machines_write_stays_text(shop, browser, number):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.locator("[data-panel=said]")).to_contain_text(NASTY)
    expect(page.locator("[data-panel=rollout]")).to_contain_text(WAITS.why)
    expect(page.locator("[data-panel=serving]")).to_contain_text(NASTY[:60])
    page.get_by_role("searchbox").fill(NASTY)
    page.keyboard.press("Enter")
    expect(page.locator("[role=alert]")).to_contain_text("That is no request id")
    assert page.get_by_role("searchbox").input_value() in (NASTY, NASTY[:64])
    assert page.evaluate("window.hacked") is None


def test_the_policy_of_the_page_lets_no_inline_script_run(shop, browser):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    policy = httpx.get(f"{shop.url}/dashboard").headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    page.evaluate(
        "const one = document.createElement('script'); one.textContent = 'window.hacked = 1';"
        " document.body.append(one)"
    )
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hacked = 1\">')"
    )
    for _ in range(200):
        if sum("Content Security Policy" in said for said in page.problems) >= 2:
            break
        page.wait_for_timeout(300)
    assert sum("Content Security Policy" in said for said in page.problems) >= 2, "each was blocked"
    assert page.evaluate("window.hacked") is None


def test_a_lost_gateway_is_told_and_found_again(shop, browser):
    page = opened_page(browser, f"{shop.url}/dashboard?lang=en")
    expect(page.locator("#status")).to_have_text("Live")
    page.route("**/dashboard/stream*", lambda route: route.abort())
    page.evaluate("source.close(); heard = Date.now() - 20000")
    expect(page.locator("#status")).to_have_text("Connection lost. Trying again")
    page.unroute("**/dashboard/stream*")
    expect(page.locator("#status")).to_have_text("Live")

"""The shop over HTTP: every page in both languages, nothing inline, forms, cookies, bounded queries."""

import html.parser
import re
import sqlite3

import httpx
import numpy as np
import pytest
from sqlalchemy import event, func, select
from sqlalchemy.engine import Engine

from recloop.market.population import make_offers
from recloop.schema import Item
from recloop.schema.bilingual import TITLE, half
from recloop.store import PURPOSES, categories
from recloop.store.tables import consents, events, impressions
from recloop.web.shop.browse import related
from recloop.web.shop.cards import card
from recloop.web.shop.texts import TEXTS
from tests.web.shop_browser import Shop, agree, put
from tests.web.test_pages import nothing_inline

OFFERS = make_offers(64, 8, np.random.default_rng(1)).records
FILM = Item(item_id="m1", title="Toy Story", category="Animation|Children's")
GONE = Item(item_id="g1", title="Old lesson · 예전 레슨", category="lessons", price=10.5, available=False)
KEPT = Item(item_id="t1", title="Kept · 남은 레슨", category="lessons", price=1000.0)
SOLD = Item(item_id="t2", title="Sold · 팔린 레슨", category="lessons", price=2000.0)
PAGES = (
    "/",
    "/search",
    "/search?q=design",
    "/search?q=zzz",
    "/category/lessons",
    f"/talent/{OFFERS[0].item_id}",
    "/cart",
    "/ordered",
    "/privacy",
    "/why?request=r&item=i",
    "/talent/nothing",
)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    made = Shop(tmp_path_factory.mktemp("home"), [*OFFERS, FILM, GONE, KEPT, SOLD], consent="required")
    with made.open():
        yield made


def rows(shop):
    with shop.engine.connect() as connection:
        tables = events, impressions, consents
        return [connection.execute(select(func.count()).select_from(one)).scalar_one() for one in tables]


class Words(html.parser.HTMLParser):
    """What a page says in its own language: texts and what is read aloud, but for code and that link."""

    def __init__(self, text):
        super().__init__()
        self.said, self.silent = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "code" or (tag == "a" and "hreflang" in found):
            self.silent = tag
        self.said += [found[name] for name in ("aria-label", "placeholder") if name in found]
        self.said += [text for name, text in found.items() if name.startswith("data-") and " " in text]

    def handle_endtag(self, tag):
        if tag == self.silent:
            self.silent = ""

    def handle_data(self, text):
        if text.strip() and not self.silent:
            self.said.append(text.strip())


@pytest.mark.parametrize("agreed", [False, True])
@pytest.mark.parametrize("path", PAGES)
def test_each_page_speaks_one_language_and_has_nothing_inline(client, path, agreed):
    if agreed:
        agree(client, *PURPOSES)
        client.post("/cart", data={"do": "add", "item": OFFERS[0].item_id})
    for code in ("en", "ko"):
        answer = client.get(path, params={**httpx.URL(path).params, "lang": code})
        assert answer.status_code == (404 if path.endswith("nothing") else 200)
        nothing_inline(answer)
        assert f'<html lang="{code}">' in answer.text
        said = Words(answer.text).said
        assert len(said) > 8
        if code == "en":
            assert not [one for one in said if re.search("[가-힣]", one)]
        else:
            data = re.compile(r"recloop|zzz|design|Toy Story|Animation|Children's|[^A-Za-z]")
            assert [one for one in said if not re.search("[가-힣]", one) and data.sub("", one)] == []


def test_what_a_shop_says_has_the_same_places_in_both_languages():
    for name, text in TEXTS["en"].items():
        assert set(re.findall(r"\{\w*\}", text)) == set(re.findall(r"\{\w*\}", TEXTS["ko"][name])), name


def test_the_language_that_was_chosen_stays(client):
    client.get("/search?lang=ko")
    assert '<html lang="ko">' in client.get("/cart").text
    assert '<html lang="en">' in client.get("/cart?lang=en").text


def test_generated_offers_have_a_title_of_their_own_and_a_text_in_each_language():
    assert len({offer.title for offer in OFFERS}) == len(OFFERS)
    for code, script in (("en", "[A-Za-z]"), ("ko", "[가-힣]")):
        shown = [card(offer, code) for offer in OFFERS]
        assert all(re.search(script, one.title) and re.search(script, one.text) for one in shown)
        assert len({one.title for one in shown}) == len(OFFERS)
    assert half("Café · 카페 · 로고", TITLE, "ko") == "Café · 카페 · 로고", "more than two halves stay whole"
    assert half("Rock · Pop", TITLE, "ko") == "Rock · Pop"


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/cart", {"do": "add", "item": "g1"}),
        ("/cart", {"do": "add", "item": "no such"}),
        ("/rating", {"item": "t1", "stars": "9"}),
        ("/order", {"order": ""}),
        ("/consent", {}),
    ],
)
@pytest.mark.parametrize("code", ["en", "ko"])
def test_a_browser_is_told_of_a_refused_form_in_words(client, path, form, code):
    accept = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8", "accept-language": code}
    answer = client.post(path, data=form, headers=accept)
    assert answer.status_code == 422
    nothing_inline(answer)
    assert TEXTS[code]["sorry"] in answer.text
    assert client.post(path, data=form).json()["field"], "and a program as before"
    foreign = client.post(path, data=form, headers=accept | {"origin": "http://elsewhere"})
    assert (foreign.status_code, TEXTS[code]["sorry"] in foreign.text) == (403, True)


def test_the_page_after_an_erasure_knows_nobody(shop, member):
    person = member.cookies["recloop_person"]
    put(member, "t1")
    page = member.post("/privacy/erase", data={"sure": "yes"}).text
    assert TEXTS["en"]["erased_title"] in page
    assert person not in page
    assert 'class="count"' not in page


@pytest.mark.parametrize(
    "words", ["🎨🎨", "ㄹㄱ", "디자이", "a" * 5000, "가" * 3000, "\u202e\u0000", "%", "_", "'"]
)
def test_whatever_is_searched_for_the_page_comes(client, words):
    answer = client.get("/search", params={"q": words})
    assert answer.status_code == 200
    assert TEXTS["en"]["nothing"] in answer.text or 'id="found"' in answer.text


def test_the_switch_changes_personalisation_alone(shop, member):
    member.post("/consent", data={"only": "personalisation", "choice": "made", "personalisation": "no"})
    page = member.get("/privacy").text
    assert page.count(TEXTS["en"]["said_yes"].partition("{")[0]) == 2
    assert TEXTS["en"]["switch_on"] in page
    with shop.engine.connect() as connection:
        query = select(consents).where(consents.c.user_id == member.cookies["recloop_person"])
        said = [(row.purpose, row.granted) for row in connection.execute(query.order_by(consents.c.id))]
    assert said == [*zip(PURPOSES, (True, True, True, False), strict=True), ("personalisation", False)]


def test_a_refusal_is_one_click_and_takes_a_yes_back(shop, member):
    member.get("/")
    assert "recloop_seen" in member.cookies
    answer = member.post("/consent", data={"choice": "none", "service": "yes", "back": "privacy"})
    assert answer.headers["location"] == "/privacy?saved"
    assert "recloop_seen" not in member.cookies
    before = rows(shop)
    for path in PAGES:
        member.get(path)
    member.post("/dismiss", data={"item": OFFERS[3].item_id})
    member.post("/rating", data={"item": OFFERS[3].item_id, "stars": "5"})
    assert rows(shop) == before
    assert member.get("/").text.count(f'data-item="{OFFERS[3].item_id}"') == 0, "hidden for this visit"


def test_terms_that_changed_ask_anew(tmp_path):
    made = Shop(tmp_path, OFFERS, consent="required")
    with made.open(), httpx.Client(base_url=made.url) as client:
        agree(client, *PURPOSES)
    terms = made.params.privacy.terms.model_copy(update={"service": 2})
    privacy = made.params.privacy.model_copy(update={"terms": terms})
    made.params = made.params.model_copy(update={"privacy": privacy})
    with made.open(), httpx.Client(base_url=made.url, cookies=client.cookies) as again:
        assert TEXTS["en"]["consent_title"] in again.get("/").text
        assert TEXTS["en"]["outdated"].format(version=2) in again.get("/privacy").text
    with made.engine.connect() as connection:
        assert connection.execute(select(func.count()).select_from(impressions)).scalar_one() == 0


FORMS = {
    "/dismiss": {"item": "i"},
    "/rating": {"item": "i", "stars": "3"},
    "/cart": {"do": "add", "item": OFFERS[0].item_id},
    "/order": {"order": "n"},
    "/consent": {"choice": "made"},
    "/privacy/export": {},
    "/privacy/erase": {"sure": "yes"},
}


@pytest.mark.parametrize("path", FORMS)
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_of_another_site_is_refused(shop, member, path, headers):
    before = rows(shop)
    assert member.post(path, data=FORMS[path], headers=headers).status_code == 403
    assert rows(shop) == before
    same = {"origin": shop.url, "sec-fetch-site": "same-origin"}
    assert member.post(path, data=FORMS[path], headers=same).status_code in (200, 303, 422)


@pytest.mark.parametrize(
    ("path", "form", "field"),
    [
        ("/dismiss", {}, "item"),
        ("/dismiss", {"item": "a b"}, "item"),
        ("/rating", {"item": "i", "stars": "6"}, "stars"),
        ("/rating", {"item": "unknown", "stars": "5"}, "item"),
        ("/cart", {"item": OFFERS[0].item_id, "do": "buy"}, "do"),
        ("/cart", {"item": "unknown", "do": "add"}, "item"),
        ("/order", {"order": ""}, "order"),
        ("/consent", {"choice": "made", "only": "everything"}, "only"),
        ("/consent", {f"f{n}": "1" for n in range(101)}, "body"),
    ],
)
def test_a_form_that_says_nothing_of_use_is_refused(member, path, form, field):
    answer = member.post(path, data=form)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


def test_cookies_are_closed_to_scripts_and_to_other_sites_forms(shop, member):
    member.get("/")
    answers = [
        member.post("/cart", data={"do": "add", "item": OFFERS[0].item_id}),
        member.post("/dismiss", data={"item": OFFERS[1].item_id}),
        member.post("/order", data={"order": "n5"}),
        member.get("/?lang=ko"),
        member.post("/consent", data={"choice": "made", "service": "yes"}),
    ]
    said = [
        value for answer in answers for name, value in answer.headers.multi_items() if name == "set-cookie"
    ]
    assert len(said) >= 6
    for one in said:
        assert {"httponly", "samesite=lax", "path=/"} <= {part.strip().lower() for part in one.split(";")}


@pytest.mark.parametrize("value", ["", "!!!", "a b|c", "x" * 5000, "i|j|k!", "<script>!" * 50])
def test_a_damaged_cookie_harms_nobody(client, value):
    for name in ("recloop_cart", "recloop_order", "recloop_hidden", "recloop_seen", "recloop_lang"):
        for path in ("/", "/cart", "/ordered"):
            assert client.get(path, headers={"cookie": f"{name}={value}"}).status_code == 200


@pytest.mark.parametrize(
    "path", ["/search?q=%00", "/search?q=" + "a" * 5000, "/search?after=%3Cb%3E", "/search?q=%FF"]
)
def test_an_odd_search_finds_nothing_or_something(client, path):
    assert client.get(path).status_code == 200


def test_pages_of_a_list_go_on_where_the_last_one_ended(client):
    seen, path = [], "/search"
    while path:
        page = client.get(path).text
        seen += re.findall(r'<li class="tile-card" data-item="([^"]+)"', page)
        found = re.search(r'href="(\?[^"]*)" rel="next"', page)
        path = f"/search{found[1]}".replace("&amp;", "&") if found else ""
    assert sorted(seen) == sorted(item.item_id for item in (*OFFERS, FILM, GONE, KEPT, SOLD))
    assert len(set(seen)) == len(seen)


def test_categories_and_related_items(shop):
    trades = {offer.category for offer in OFFERS}
    assert categories(shop.engine) == sorted({*trades, FILM.category})
    assert categories(shop.engine, 2) == sorted({*trades, FILM.category})[:2]
    near = related(shop.engine, OFFERS[0])
    assert {one.category for one in near} == {OFFERS[0].category}
    assert OFFERS[0].item_id not in {one.item_id for one in near}
    assert len(near) == 5
    assert related(shop.engine, FILM) == []


def test_no_page_reads_a_whole_table(shop, member):
    """SQLite says of each query of the pages whether it would go through all rows of a large table."""
    member.get("/")
    asked = []

    def note(connection, cursor, statement, parameters, context, executemany):
        asked.append((statement, parameters))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        for path in PAGES:
            member.get(path)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    plans = []
    with sqlite3.connect(shop.engine.url.database) as connection:
        for statement, parameters in asked:
            if re.search(r"\b(items|item_words|events|impressions)\b", statement) and "SELECT" in statement:
                rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans += [(row[3], statement) for row in rows]
    assert len(plans) > 20
    tables = r"SCAN (items|item_words|events|impressions)\b"
    assert [plan for plan in plans if re.match(tables, plan[0])] == []


def test_without_a_store_the_shop_says_so(tmp_path):
    made = Shop(tmp_path, OFFERS, consent="required")
    with made.open(), httpx.Client(base_url=made.url, timeout=20) as client:
        agree(client, *PURPOSES)
        with made.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE items RENAME TO away")
        for path in ("/", "/search", "/cart"):
            client.cookies.set("recloop_cart", f"{OFFERS[0].item_id}|", domain="127.0.0.1")
            answer = client.get(path)
            assert answer.status_code == 503
            assert TEXTS["en"]["busy"] in answer.text
            nothing_inline(answer)
        assert client.post("/cart", data={"do": "add", "item": OFFERS[0].item_id}).status_code == 503

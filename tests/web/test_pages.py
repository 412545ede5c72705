"""Pages over real HTTP: consent first, both languages, titles stay text, nothing inline."""

import html.parser
import re
import threading

import httpx
import pytest
import uvicorn
from sqlalchemy import func, select

from recloop.delivery.why import TEXTS as WHY
from recloop.schema import Item
from recloop.settings import load_params, places
from recloop.store import PURPOSES, add_items, consented, open_store, set_consent
from recloop.store.tables import consents, events, impressions, users
from recloop.web.app import create
from recloop.web.shop.texts import TEXTS

NASTY = "<script>alert('x')</script>"


@pytest.fixture
def engine(tmp_path):
    engine = open_store(f"sqlite:///{tmp_path}/store.db")
    titles = [NASTY, "로고 디자인", 'a" onclick="x', "Ünïcode & more", "e", "f"]
    add_items(engine, [Item(item_id=f"i{n}", title=title) for n, title in enumerate(titles)])
    return engine


@pytest.fixture
def client(tmp_path, engine):
    app = create(places(home=tmp_path, store_url="", token="t"), load_params())
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
        yield client
    server.should_exit = True
    thread.join(20)


def count(engine, table):
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(table)).scalar_one()


class Tags(html.parser.HTMLParser):
    """All tags with their attributes, and all text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts = [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def nothing_inline(answer):
    page = Tags(answer.text)
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    for tag, attributes in page.tags:
        assert tag != "style"
        assert tag != "script" or attributes["src"].startswith(("/static/", "/recloop.js"))
        assert not any(name.startswith("on") or name == "style" for name in attributes)
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags
    return page


def slate_of(page):
    """The request and the items of the list of suggestions."""
    ids = [attributes.get("id") for _, attributes in page.tags]
    begins, ends = ids.index("slate"), ids.index("liked")
    tags = [attributes for _, attributes in page.tags[begins:ends]]
    return tags[0]["data-request"], [one["data-item"] for one in tags if "data-item" in one]


def choose(client, word, **headers):
    """Everything, or all but personalisation."""
    words = {"choice": "made", "service": "yes", "training": "yes", "personalisation": word}
    return client.post("/consent", data=words, headers=headers)


def test_the_choice_comes_first_and_nothing_is_kept_before_it(client, engine):
    answer = client.get("/")
    page = nothing_inline(answer)
    assert TEXTS["en"]["consent_title"] in page.texts
    assert "set-cookie" not in answer.headers
    assert count(engine, impressions) == 0
    assert choose(client, "maybe").status_code == 422
    assert client.post("/consent", data={"service": "yes"}).json()["field"] == "choice"
    assert choose(client, "yes", origin="http://evil.example").status_code == 403
    assert count(engine, consents) == 0


@pytest.mark.parametrize("word", ["yes", "no"])
def test_after_the_choice_a_slate_is_shown_logged_and_answered(client, engine, word):
    answer = choose(client, word)
    assert answer.status_code == 303
    assert {"HttpOnly", "SameSite=lax"} <= {part.strip() for part in answer.headers["set-cookie"].split(";")}
    person = client.cookies["recloop_person"]
    assert consented(engine, person, "personalisation") == (word == "yes")
    page = nothing_inline(client.get("/"))
    assert NASTY in page.texts, "the title is text, as it is"
    asked, shown = slate_of(page)
    assert ("script", {"src": "/recloop.js", "defer": None, "data-person": person}) in page.tags
    assert len(shown) == load_params().serving.slate
    with engine.connect() as connection:
        found = connection.execute(select(impressions.c.item_id).where(impressions.c.request_id == asked))
        assert sorted(found.scalars()) == sorted(shown)
    act = {"user_id": person, "item_id": shown[0], "kind": "dismiss", "request_id": asked}
    assert client.post("/feedback", json=act).json()["accepted"] == 1


def test_a_title_cannot_leave_its_place(client):
    choose(client, "yes")
    text = client.get("/").text
    assert NASTY not in text
    assert "&lt;script&gt;" in text
    assert 'onclick="x' not in text


def test_the_choice_can_be_changed(client, engine):
    choose(client, "yes")
    person = client.cookies["recloop_person"]
    assert TEXTS["en"]["said_yes"].partition("{")[0] in client.get("/privacy").text
    choose(client, "no")
    assert client.cookies["recloop_person"] == person
    assert not consented(engine, person, "personalisation")


def test_with_no_box_ticked_a_slate_is_shown_and_nothing_kept(client, engine):
    assert client.post("/consent", data={"choice": "made"}).status_code == 303
    page = nothing_inline(client.get("/"))
    assert TEXTS["en"]["anonymous_badge"] in " ".join(page.texts)
    assert TEXTS["en"]["personal_badge"] not in page.texts
    _, shown = slate_of(page)
    assert len(shown) == load_params().serving.slate
    act = {"user_id": client.cookies["recloop_person"], "item_id": shown[0], "kind": "click"}
    assert client.post("/feedback", json=act).json()["accepted"] == 0
    assert count(engine, impressions) == count(engine, events) == count(engine, users) == 0


def test_no_box_is_ticked_beforehand_and_each_purpose_has_its_own(client):
    boxes = boxes_of(client.get("/"))
    assert [box["name"] for box in boxes] == list(PURPOSES)
    assert not any("checked" in box for box in boxes)
    choose(client, "no")
    boxes = boxes_of(client.get("/privacy"))
    assert [box["name"] for box in boxes if "checked" in box] == ["service", "training"]


def boxes_of(answer):
    return [
        attributes
        for tag, attributes in Tags(answer.text).tags
        if tag == "input" and attributes.get("type") == "checkbox"
    ]


@pytest.mark.parametrize("language", ["en", "ko"])
def test_why_this_is_told_to_the_person_alone(client, language):
    choose(client, "yes")
    page = Tags(client.get(f"/?lang={language}").text)
    hrefs = [attributes.get("href", "") for _, attributes in page.tags]
    links = [href for href in hrefs if href.startswith("/why")]
    assert len(links) == load_params().serving.slate
    told = nothing_inline(client.get(links[0]))
    assert WHY[language]["fallback"] in told.texts
    client.cookies.clear()
    assert WHY[language]["unknown"] in Tags(client.get(f"{links[0]}&lang={language}").text).texts


@pytest.mark.parametrize("cookie", ["someone", "w-" + "<" * 32, "w-" + "ä" * 32, "", "w-" + "a" * 33])
def test_a_made_up_cookie_is_nobody(client, engine, cookie):
    set_consent(engine, "someone", "personalisation", True)
    answer = client.get("/", headers={"cookie": f"recloop_person={cookie}".encode()})
    assert answer.status_code == 200
    assert TEXTS["en"]["consent_title"] in answer.text


@pytest.mark.parametrize(
    ("query", "accepted", "language"),
    [
        ("", "ko-KR,ko;q=0.9,en;q=0.8", "ko"),
        ("", "de,en;q=0.8", "en"),
        ("", "", "en"),
        ("?lang=en", "ko", "en"),
        ("?lang=ko", "en", "ko"),
        ("?lang=xx", "ko", "ko"),
    ],
)
def test_the_language_is_the_person_s(client, query, accepted, language):
    answer = client.get(f"/{query}", headers={"accept-language": accepted})
    assert f'<html lang="{language}">' in answer.text
    assert TEXTS[language]["consent_title"] in answer.text


def test_both_languages_say_everything():
    assert TEXTS["ko"].keys() == TEXTS["en"].keys()
    assert all(re.search("[가-힣]", text) for text in TEXTS["ko"].values())
    assert not any(re.search("[가-힣]", text) for text in TEXTS["en"].values())


@pytest.mark.parametrize(
    "path", ["style.css", "shop.js", "shop.css", "dashboard.js", "dashboard.css", "icon.svg"]
)
def test_what_pages_refer_to_is_there(client, path):
    assert client.get(f"/static/{path}").status_code == 200


def test_nothing_but_static_files_is_served(client):
    assert client.get("/static/..%2f__main__.py").status_code == 404

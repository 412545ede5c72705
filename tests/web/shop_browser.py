"""The shop in a real Chromium: a gateway before a real slot over one store, and a browser with many faces."""

import shutil
import threading
from contextlib import contextmanager

import pytest
import uvicorn
from sqlalchemy import select

from recloop.delivery import Target, rollout
from recloop.policy import load
from recloop.serving.app import create_app
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens, load_params, places
from recloop.store import add_items, open_store
from recloop.store.tables import events
from recloop.web.app import create
from tests.delivery.live import until
from tests.serving.conftest import FREE
from tests.web.test_access import ROOT

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None
)
NEEDS_CHROMIUM = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
AGENT = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36"
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 760}


class Shop:
    """A shop that listens: ``url``, and the ``engine`` of its store."""

    def __init__(self, home, items, policy=None, **settings):
        self.places = places(home=home, store_url="", token="t", **settings)
        self.params = load_params(ROOT / "params.yaml")
        self.engine = open_store(self.places.store)
        self.policy = policy
        add_items(self.engine, items)

    @contextmanager
    def open(self):
        """Serve until the block ends."""
        with listening(self._slot()) as slot:
            if self.policy:
                rollout.install(
                    self.engine, "blue", Target(slot, load(self.policy).manifest.name), "test", "first"
                )
            with listening(create(self.places, self.params)) as self.url:
                yield self
        self.engine.dispose()

    def _slot(self):
        if self.policy is None:
            return None
        return create_app(Recommender(load(self.policy), Past(self.places.store)), Tokens({}), FREE)


@contextmanager
def listening(app):
    """The address of an app in a thread; None for none."""
    if app is None:
        yield None
        return
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(60)


@pytest.fixture(scope="module")
def chromium():
    """One browser for the tests of a module; what is expected of a page may take long to come."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=60_000)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def visit(chromium, language="en", viewport=DESKTOP, **settings):
    """A page of a visitor of its own, whose complaints (errors, what the policy blocked) end the test."""
    context = chromium.new_context(
        locale=language, viewport=viewport, user_agent=settings.pop("agent", AGENT), **settings
    )
    context.set_default_timeout(60_000)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None
    )
    page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
    yield page
    context.close()
    assert wrong == []


def agree(client, *purposes, **more):
    answer = client.post("/consent", data={"choice": "made"} | dict.fromkeys(purposes, "yes") | more)
    assert answer.status_code == 303


def acts(shop, client):
    query = select(events).where(events.c.user_id == client.cookies["recloop_person"])
    with shop.engine.connect() as connection:
        return connection.execute(query.order_by(events.c.seq)).all()


def put(client, *names):
    for name in names:
        assert client.post("/cart", data={"do": "add", "item": name}).headers["location"] == "/cart"

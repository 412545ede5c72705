"""Every route of gateway and slot: without a token, with the wrong scope, and with the right one."""

import base64
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from recloop.policy import load
from recloop.schema import Item
from recloop.serving.app import SCOPES as SLOT_SCOPES
from recloop.serving.app import app_from_environment, create_app
from recloop.serving.guard import OPEN
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import TokenError, load_params, places
from recloop.settings.tokens import FEEDBACK, OPERATE, PERSON, READ, SCOPES, add_token
from recloop.store import add_items, open_store
from recloop.web.app import create
from tests.serving.conftest import folder  # noqa: F401

ROOT = Path(__file__).parents[2]
NEEDED = {  # what a reader of docs/security.md relies on, written down a second time
    "gateway": {
        "/recommend": READ,
        "/feedback": FEEDBACK,
        "/events": FEEDBACK,
        "/profiles": FEEDBACK,
        "/rollout/abort": OPERATE,
        "/healthz": OPEN,
        "/status": READ,
        "/metrics": READ,
        "/openapi.json": OPEN,
        "GET /items": READ,
        "POST /items": OPERATE,
        "GET /items/{item_id}": READ,
        "PUT /items/{item_id}": OPERATE,
        "DELETE /items/{item_id}": OPERATE,
        "GET /items/{item_id}/versions": READ,
        "/": READ,
        "/why": READ,
        "/category/{name:path}": READ,
        "/search": READ,
        "/talent/{item_id}": READ,
        "/dismiss": FEEDBACK,
        "/rating": FEEDBACK,
        "GET /cart": READ,
        "POST /cart": FEEDBACK,
        "/order": FEEDBACK,
        "/ordered": READ,
        "/privacy": READ,
        "/privacy/export": FEEDBACK,
        "/privacy/erase": FEEDBACK,
        "/consent": FEEDBACK,
        "/person/consents": FEEDBACK,
        "/person/import-consents": PERSON,
        "/person/data": PERSON,
        "/person/export": PERSON,
        "/person/erase": PERSON,
        "/person/why": PERSON,
        "/dashboard": READ,
        "/dashboard/stream": READ,
        "/dashboard/request": READ,
        "/dashboard/request/{request_id}": READ,
        "/dashboard/rollout": OPERATE,
        "/static": OPEN,
        "/recloop.js": OPEN,
    },
    "slot": {
        "/recommend": READ,
        "/feedback": FEEDBACK,
        "/policy": READ,
        "/openapi.json": OPEN,
        "/docs.json": OPEN,
        "/": OPEN,
    },
}


@pytest.fixture(scope="module")
def made(tmp_path_factory, folder):  # noqa: F811
    """Both apps as they are beyond loopback, and a token of each scope alone."""
    home = tmp_path_factory.mktemp("home")
    where = places(home=home, host="0.0.0.0", store_url="", token="")
    tokens = {scope: add_token(where.token_list, scope, [scope]) for scope in SCOPES}
    add_items(open_store(where.store), [Item(item_id="i1", title="One")])
    apps = {
        "gateway": create(where, load_params(ROOT / "params.yaml")),
        "slot": create_app(Recommender(load(folder), Past(where.store)), where.tokens, frozenset()),
    }
    with TestClient(apps["gateway"], raise_server_exceptions=False) as gateway:
        yield apps, {"gateway": gateway, "slot": TestClient(apps["slot"])}, tokens


def routes(app: Starlette) -> list[tuple[str, str]]:
    found = []
    for route in app.routes:
        if isinstance(route, Mount):
            found.append(("GET", route.path))
        else:
            assert isinstance(route, Route)
            found += [(method, route.path) for method in sorted(route.methods or ())]
    return found


def ask(client, method, path, token=None, kind="Bearer"):
    sent = token if isinstance(token, bytes) else (token or "").encode()
    headers = {"authorization": kind.encode() + b" " + sent} if token else {}
    path = "/static/style.css" if path == "/static" else path.replace("{item_id}", "i1")
    body = {"why": ""} if method == "POST" else None
    return client.request(method, path, headers=headers, json=body, follow_redirects=False)


def scope_of(which, method, path):
    """As it is written down: for the method, or for all of the path."""
    of_method = f"{'GET' if method == 'HEAD' else method} {path}"
    return NEEDED[which][of_method if of_method in NEEDED[which] else path]


@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_every_route_asks_for_the_scope_that_it_needs(made, which, monkeypatch):
    monkeypatch.setattr("recloop.web.dashboard.routes.LIFE", 0.0)  # else the stream goes on
    apps, clients, tokens = made
    client, found = clients[which], routes(apps[which])
    assert {path for _, path in found} == {name.split()[-1] for name in NEEDED[which]}
    for method, path in found:
        needed = scope_of(which, method, path)
        if needed == OPEN:
            assert ask(client, method, path).status_code == 200, path
            continue
        bare = ask(client, method, path)
        assert bare.status_code == 401, (method, path)
        assert bare.headers["www-authenticate"].startswith("Bearer")
        for made_up in ("wrong", tokens[needed] + "x", tokens[needed][:-1], "ü".encode()):
            assert ask(client, method, path, made_up).status_code == 401, (method, path)
        for scope, token in tokens.items():
            status = ask(client, method, path, token).status_code
            assert (status not in (401, 403)) == (scope == needed), (method, path, scope)
            assert scope == needed or status == 403


@pytest.mark.parametrize("path", ["/nowhere", "/recommend/", "/rollout/abort/", "/RECOMMEND"])
def test_a_path_that_is_not_known_needs_operate(made, path):
    for client in made[1].values():
        answer = client.post(path, json={}, follow_redirects=False)
        assert answer.status_code in (401, 405), path


def test_a_browser_may_send_the_token_as_a_password(made):
    _, clients, tokens = made
    words = base64.b64encode(f"anyone:{tokens[READ]}".encode()).decode()
    assert ask(clients["gateway"], "GET", "/dashboard", words, "Basic").status_code == 200
    for wrong in ("%%%", base64.b64encode(b"\xff\xff").decode(), base64.b64encode(b"no-colon").decode()):
        assert ask(clients["gateway"], "GET", "/dashboard", wrong, "Basic").status_code == 401


def test_loopback_reads_and_tells_freely_but_operates_with_a_token_only(tmp_path, monkeypatch, folder):  # noqa: F811
    where = places(home=tmp_path, store_url="", token="t")
    with TestClient(create(where, load_params(ROOT / "params.yaml"))) as client:
        assert client.get("/status").status_code == 200
        assert client.post("/events", json=[]).status_code == 200
        assert client.post("/rollout/abort", json={"why": ""}).status_code == 401
    asking = where.model_copy(update={"ask_always": True})
    with TestClient(create(asking, load_params(ROOT / "params.yaml"))) as client:
        assert client.get("/status").status_code == 401
        assert client.post("/events", json=[]).status_code == 401
        assert client.post("/events", json=[], headers={"authorization": "Bearer t"}).status_code == 200
        assert client.get("/healthz").status_code == 200


def test_a_slot_that_may_be_reached_from_elsewhere_needs_tokens(folder, monkeypatch):  # noqa: F811
    for host in (None, "0.0.0.0"):
        if host:
            monkeypatch.setenv("RECLOOP_SLOT_HOST", host)
        with pytest.raises(TokenError, match="there are no tokens"):
            app_from_environment(folder)
    monkeypatch.setenv("RECLOOP_READ_TOKEN", "r" * 32)
    slot = TestClient(app_from_environment(folder))
    assert slot.post("/recommend", json={"user_id": "u"}).status_code == 401
    told = {"authorization": f"Bearer {'r' * 32}"}
    assert slot.post("/recommend", json={"user_id": "u"}, headers=told).status_code == 200
    assert slot.post("/feedback", json={}, headers=told).status_code == 403
    monkeypatch.setenv("RECLOOP_SLOT_HOST", "127.0.0.1")
    assert (
        TestClient(app_from_environment(folder)).post("/recommend", json={"user_id": "u"}).status_code == 200
    )


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_a_gateway_beyond_loopback_without_tokens_does_not_start(tmp_path, monkeypatch, how):
    command = [sys.executable, "-m", "recloop.web", "--port", "0", "--params", str(ROOT / "params.yaml")]
    if how == "argument":
        command += ["--host", "0.0.0.0"]
    else:
        monkeypatch.setenv("RECLOOP_HOST", "0.0.0.0")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "the gateway does not start: 0.0.0.0 can be reached" in done.stderr
    assert "recloop token add" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_served_is_what_is_written_down():
    assert NEEDED["slot"] == SLOT_SCOPES

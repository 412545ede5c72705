"""Whatever the OpenAPI documents allow or forbid: no answer above 499, and none that they do not name."""

import asyncio
import itertools
import json
import random
import time

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from starlette.testclient import TestClient

from recloop.delivery.openapi import GATEWAY
from recloop.policy import load
from recloop.schema import Item
from recloop.serving.app import create_app
from recloop.serving.openapi import DOCUMENT
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens, load_params, places
from recloop.settings.tokens import SCOPES
from recloop.store import add_items, open_store
from recloop.web.app import create
from tests.serving.conftest import FREE, folder  # noqa: F401
from tests.web.test_access import ROOT

QUICKLY = {"phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}
SECONDS = 290.0  # of each app, in the slow run
MANY, DAMAGED = 50_000, 24  # requests of each app; damaged ones made of one of Schemathesis
BENTOML = ("/livez", "/readyz", "/metrics")  # of a slot: answered before the app
TOKEN = "a-token-of-a-test-that-is-long"
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def built(tmp_path_factory, folder):  # noqa: F811
    where = places(home=tmp_path_factory.mktemp("home"), store_url="", token=TOKEN)
    add_items(open_store(where.store), [Item(item_id=f"i{n}", title=f"Item {n}") for n in range(5)])
    slot = create_app(Recommender(load(folder), Past(where.store)), Tokens({TOKEN: SCOPES}), FREE)
    gateway = create(where, load_params(ROOT / "params.yaml"))
    return {"gateway": gateway, "slot": slot}


@pytest.fixture(scope="module")
def apps(built):
    with TestClient(built["gateway"], raise_server_exceptions=False) as client:
        yield {"gateway": client, "slot": TestClient(built["slot"], raise_server_exceptions=False)}


def cases(document, left_out=()):
    """Requests as the document has them, and as it forbids them."""
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    wanted = [operation for operation in found if operation.path not in left_out]
    good = [operation.as_strategy(generation_mode=GenerationMode.POSITIVE) for operation in wanted]
    posts = [operation for operation in wanted if operation.body]
    return st.one_of(good + [one.as_strategy(generation_mode=GenerationMode.NEGATIVE) for one in posts])


CASES = {"gateway": cases(GATEWAY), "slot": cases(DOCUMENT, BENTOML)}


def request_of(case):
    """What a client is given to send it."""
    sent = case.as_transport_kwargs(base_url="http://testserver")
    sent = {key: sent[key] for key in ("method", "url", "params", "json", "data") if key in sent}
    if isinstance(sent.get("data"), str | bytes):
        sent["content"] = sent.pop("data")
    return sent


def check(client, case, body=None):
    sent = request_of(case)
    if body is not None:
        sent = {key: sent[key] for key in ("method", "url", "params") if key in sent} | {"content": body}
    kind = {"content-type": "application/json"}
    answer = client.request(
        **sent, headers=(kind if case.method.upper() in ("POST", "PUT") else {}) | OPERATOR
    )
    assert answer.status_code < 500, answer.text
    described = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in described, (
        case.method,
        case.path,
        answer.status_code,
        answer.text,
        body,
    )


def run(client, which, count, number):
    @seed(number)
    @settings(max_examples=count, deadline=None, database=None, **QUICKLY)
    @given(case=CASES[which])
    def holds(case):
        check(client, case)

    holds()


@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_no_request_breaks_it(apps, which):
    run(apps[which], which, 150, 0)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_no_request_of_many_breaks_it(built, which, record_property):
    """Each request of Schemathesis, and as many damaged ones made of it as ``DAMAGED`` says."""
    end, count = time.monotonic() + SECONDS, 0
    with Direct(built[which]) as client:
        for number in itertools.count(1):
            if time.monotonic() > end or count >= MANY:
                break
            count += run_damaged(client, which, number)
    record_property("cases", count)
    print(f"{which}: {count} cases")


def run_damaged(client, which, number):
    """200 requests of Schemathesis with their damaged ones; how many in all."""
    sent = []

    @seed(number)
    @settings(max_examples=200, deadline=None, database=None, **QUICKLY)
    @given(case=CASES[which], luck=st.integers(0, 2**32))
    def holds(case, luck):
        check(client, case)
        sent.append(1)
        whole = request_of(case)
        body = json.dumps(whole["json"]).encode() if "json" in whole else whole.get("content")
        if isinstance(body, str):
            body = body.encode()
        if body:
            rng = random.Random(luck)
            for _ in range(DAMAGED):
                check(client, case, damaged(body, rng))
                sent.append(1)

    holds()
    return len(sent)


ODD = [
    None,
    True,
    -1,
    2**63,
    1e308,
    0.1,
    "",
    "\0",
    "a" * 70,
    "서울",
    "../x",
    [],
    {},
    [[[[]]]],
    {"a": {"b": 1}},
]


def damaged(body, rng):
    """Bytes: a JSON value somewhere in it replaced, removed or added, or the bytes themselves changed."""
    try:
        content = json.loads(body)
    except ValueError:
        content = None
    if isinstance(content, dict | list) and rng.random() < 0.7:
        place = content
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = rng.choice(keys)
            if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.6:
                place = place[key]
                continue
            if rng.random() < 0.2:
                del place[key]
            else:
                place[key] = rng.choice(ODD)
            break
        if isinstance(place, dict) and rng.random() < 0.2:
            place[rng.choice(["", "ts", "k", "more", "__class__"])] = rng.choice(ODD)
        return json.dumps(content, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    torn = bytearray(body)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(torn) + 1)
        match rng.randrange(3):
            case 0:
                torn[place:place] = rng.randbytes(rng.randint(1, 4))
            case 1:
                del torn[place : place + rng.randint(1, 8)]
            case _:
                torn[place:place] = torn[: rng.randint(0, 64)]
    return bytes(torn)


class Direct:
    """Calls an app in the test's own thread, without a transport; use as a context manager."""

    def __init__(self, app):
        self.app = app

    def __enter__(self):
        self.runner = asyncio.Runner()
        self.lifespan = self.app.router.lifespan_context(self.app)
        self.runner.run(self.lifespan.__aenter__())
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        self.client = httpx.AsyncClient(transport=transport, base_url="http://testserver")
        return self

    def __exit__(self, *_):
        self.runner.run(self.lifespan.__aexit__(None, None, None))
        self.runner.close()

    def request(self, method, url, **words):
        return self.runner.run(self.client.request(method, url, **words))

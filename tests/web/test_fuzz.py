"""Whatever the OpenAPI documents allow or forbid: no answer above 499, and none that they do not name."""

import itertools
import time

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
SECONDS = 85.0  # of each app, in the slow run
BENTOML = ("/livez", "/readyz", "/metrics")  # of a slot: answered before the app
TOKEN = "a-token-of-a-test-that-is-long"
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def apps(tmp_path_factory, folder):  # noqa: F811
    where = places(home=tmp_path_factory.mktemp("home"), store_url="", token=TOKEN)
    add_items(open_store(where.store), [Item(item_id=f"i{n}", title=f"Item {n}") for n in range(5)])
    slot = create_app(Recommender(load(folder), Past(where.store)), Tokens({TOKEN: SCOPES}), FREE)
    gateway = create(where, load_params(ROOT / "params.yaml"))
    with TestClient(gateway, raise_server_exceptions=False) as client:
        yield {"gateway": client, "slot": TestClient(slot, raise_server_exceptions=False)}


def cases(document, left_out=()):
    """Requests as the document has them, and as it forbids them."""
    found = [result.ok() for result in schemathesis.openapi.from_dict(document).get_all_operations()]
    wanted = [operation for operation in found if operation.path not in left_out]
    good = [operation.as_strategy(generation_mode=GenerationMode.POSITIVE) for operation in wanted]
    posts = [operation for operation in wanted if operation.body]
    return st.one_of(good + [one.as_strategy(generation_mode=GenerationMode.NEGATIVE) for one in posts])


CASES = {"gateway": cases(GATEWAY), "slot": cases(DOCUMENT, BENTOML)}


def check(client, case):
    sent = case.as_transport_kwargs(base_url="http://testserver")
    sent = {key: sent[key] for key in ("method", "url", "params", "json", "data") if key in sent}
    if isinstance(sent.get("data"), str | bytes):
        sent["content"] = sent.pop("data")
    kind = {"content-type": "application/json"}
    answer = client.request(**sent, headers=(kind if case.method.upper() == "POST" else {}) | OPERATOR)
    assert answer.status_code < 500, answer.text
    described = case.operation.definition.raw["responses"]
    assert str(answer.status_code) in described, (case.method, case.path, answer.status_code, answer.text)


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
@pytest.mark.parametrize("which", ["gateway", "slot"])
def test_no_request_of_many_breaks_it(apps, which, record_property):
    end, count = time.monotonic() + SECONDS, 0
    for number in itertools.count(1):
        if time.monotonic() > end or count >= 100_000:
            break
        run(apps[which], which, 500, number)
        count += 500
    record_property("cases", count)
    print(f"{which}: {count} cases")

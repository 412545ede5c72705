"""An act changes the next slate, from the gateway's door to the slot's scores and back."""

import threading

import pytest
import uvicorn

from recloop.delivery import Target, rollout
from recloop.policy import load
from recloop.serving.app import create_app
from recloop.serving.past import Past
from recloop.serving.recommender import Recommender
from recloop.settings import Tokens
from tests.delivery.live import Live, until
from tests.serving.conftest import FREE, write_policy


@pytest.fixture
def live(tmp_path):
    """A gateway before a real slot, over one store."""
    live, policy = Live(tmp_path / "home"), load(write_policy(tmp_path / "policy"))
    slot = create_app(Recommender(policy, Past(live.places.store)), Tokens({}), FREE)
    server = uvicorn.Server(uvicorn.Config(slot, port=0, log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    until(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    target = Target(f"http://127.0.0.1:{port}", policy.manifest.name)
    rollout.install(live.engine, "blue", target, "test", "first")
    with live:
        yield live
    server.should_exit = True
    thread.join(20)


def scores(live, user):
    slate = live.ask(user).json()
    assert not slate["fallback"]
    return dict(zip(slate["items"], slate["scores"], strict=True)), slate


@pytest.mark.parametrize("path", ["/feedback", "/events"])
def test_a_click_counts_in_the_very_next_answer(live, path):
    before, slate = scores(live, "u")
    assert slate["cold_start"]
    act = {"user_id": "u", "item_id": "i1", "kind": "click", "request_id": slate["request_id"]}
    assert live.client.post(path, json=act if path == "/feedback" else [act]).status_code == 200
    after, slate = scores(live, "u")
    assert not slate["cold_start"], "what was acknowledged is read at once"
    assert after["i1"] == pytest.approx(before["i1"] + 10), "as the policy values a liked item"
    others, slate = scores(live, "somebody-else")
    assert slate["cold_start"]
    assert others["i1"] == pytest.approx(before["i1"])

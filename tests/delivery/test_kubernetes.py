"""A slot on Kubernetes: which image its Deployment gets, and when it counts as ready."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from recloop.delivery import Target, kubernetes
from recloop.delivery.kubernetes import Cluster, unready
from recloop.delivery.processes import ProcessError
from recloop.registry import Registered

CHALLENGER = Registered("recloop", 3, "run", "ab" * 32, "recloop_slot:0123456789abcdef")
READY = {"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}


def deployment(status, replicas=2):
    return {"metadata": {"generation": 2}, "spec": {"replicas": replicas}, "status": status}


class Server:
    """An API server with one Deployment, whose status comes from a list; the last one stays."""

    def __init__(self, statuses, refuse=0):
        self.seen = seen = []

        class Answers(BaseHTTPRequestHandler):
            def do_PATCH(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                seen.append((self.path, dict(self.headers), json.loads(body)))
                self.reply(refuse or 200, deployment({}))

            def do_GET(self):
                status = statuses.pop(0) if len(statuses) > 1 else statuses[0]
                self.reply(200, deployment(status))

            def reply(self, code, content):
                body = json.dumps(content).encode()
                self.send_response(code)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def account(tmp_path, monkeypatch):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "namespace").write_text("shop")
    monkeypatch.setattr(kubernetes, "LOOK", 0.01)
    policy = SimpleNamespace(manifest=SimpleNamespace(name="dqn-abab"))
    monkeypatch.setattr(kubernetes, "policy_of", lambda _: policy)
    return tmp_path


def test_the_slot_gets_the_bento_s_image_and_is_waited_for(account):
    old = {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    half = READY | {"updatedReplicas": 1}
    with Server([old, half, READY]) as api:
        cluster = Cluster(api.url, account, "registry.example.com/recloop")
        assert cluster.start("green", CHALLENGER) == Target("http://slot-green:3001", "dqn-abab")
    ((path, headers, change),) = api.seen
    assert path == "/apis/apps/v1/namespaces/shop/deployments/slot-green"
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Type"] == "application/strategic-merge-patch+json"
    (container,) = change["spec"]["template"]["spec"]["containers"]
    image = "registry.example.com/recloop/recloop_slot:0123456789abcdef"
    assert container == {"name": "slot", "image": image}


def test_pods_that_do_not_become_ready_are_an_error_that_says_why(account):
    why = {"status": "False", "message": "quota exceeded"}
    with Server([READY | {"availableReplicas": 1, "conditions": [why]}]) as api:
        cluster = Cluster(api.url, account, "r", seconds=0.1)
        with pytest.raises(ProcessError, match="1 of 2 pods are ready; quota exceeded"):
            cluster.start("blue", CHALLENGER)


def test_a_refusal_of_the_api_server_is_told(account):
    with Server([READY], refuse=403) as api, pytest.raises(ProcessError, match="slot-blue: 403"):
        Cluster(api.url, account, "r").start("blue", CHALLENGER)
    with pytest.raises(ProcessError, match="does not answer"):
        Cluster(api.url, account, "r").start("blue", CHALLENGER)


@pytest.mark.parametrize(
    ("status", "replicas", "says"),
    [
        (READY, 2, ""),
        (READY, 3, "2 of 3 pods are ready"),
        (READY | {"replicas": 3}, 2, "2 of 2 pods are ready"),  # one of the old is still there
        (READY | {"observedGeneration": 1}, 2, "its change is not seen yet"),
        ({}, 2, "its change is not seen yet"),
        (READY, 0, "it is scaled to 0 replicas"),
    ],
)
def test_a_deployment_is_ready_when_all_pods_are_new_and_available(status, replicas, says):
    assert unready(deployment(status, replicas), 2) == says


def test_outside_of_a_pod_it_says_what_is_missing():
    with pytest.raises(ProcessError, match="KUBERNETES_SERVICE_HOST is not set"):
        Cluster.of({})
    here = {
        "KUBERNETES_SERVICE_HOST": "fd00::1",
        "KUBERNETES_SERVICE_PORT": "443",
        "RECLOOP_SLOT_IMAGES": "r/",
    }
    assert (Cluster.of(here).server, Cluster.of(here).images) == ("https://[fd00::1]:443", "r")

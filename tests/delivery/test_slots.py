"""Slots as processes: a policy that was tampered with does not start, and the other slot never notices."""

import threading
import time

import httpx
import numpy as np
import psutil
import pytest

from recloop.delivery import processes, rollout, slots
from recloop.delivery.processes import ProcessError, free_port
from recloop.policy import load
from recloop.schema import Slate
from recloop.serving.build import bento_home, build_bento
from recloop.settings import places
from recloop.store import add_items, open_store
from tests.delivery.live import gateway_process, until
from tests.delivery.load import Load
from tests.policy.test_retrieval import D, N, write
from tests.serving.conftest import ITEMS, PROJECT, write_policy

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("nothing_left")
def test_a_tampered_policy_does_not_start_while_the_old_one_answers_everyone(tmp_path):
    where = places(
        home=tmp_path / "var", blue_port=free_port(), green_port=free_port(), store_url="", token="t"
    )
    other = np.random.default_rng(5).standard_normal((N, D)).astype(np.float32)
    folders = {"blue": write(tmp_path / "old"), "green": write(tmp_path / "new", vectors=other)}
    built = {name: build_bento(PROJECT, folder, where.home, {}) for name, folder in folders.items()}
    part = bento_home(where.home) / "bentos" / built["green"].tag.replace(":", "/") / "src/models/policy"
    sound = (part / "vectors.npy").read_bytes()
    tampered = {
        r"vectors\.npy was altered": sound[:-1] + bytes([sound[-1] ^ 1]),
        r"vectors\.npy was altered: its sha256": (folders["blue"] / "vectors.npy").read_bytes(),
    }
    stop, statuses, policies = threading.Event(), [], set()
    try:
        blue = slots.start(where, "blue", built["blue"].tag, built["blue"].policy)

        def ask():
            with httpx.Client(base_url=blue.url, timeout=60) as client:
                while not stop.is_set():
                    answer = client.post("/recommend", json={"user_id": "p"})
                    statuses.append(answer.status_code)
                    policies.add(Slate.model_validate_json(answer.content).policy)

        people = threading.Thread(target=ask)
        people.start()
        for says, content in tampered.items():
            (part / "vectors.npy").write_bytes(content)
            before = len(statuses)
            with pytest.raises(ProcessError, match=says):
                slots.start(where, "green", built["green"].tag, built["green"].policy)
            assert slots.alive(where, "blue")
            assert len(statuses) > before
        (part / "vectors.npy").write_bytes(sound)
        green = slots.start(where, "green", built["green"].tag, built["green"].policy)
        assert httpx.get(f"{green.url}/policy").json()["name"] == load(folders["green"]).manifest.name
    finally:
        stop.set()
        people.join(60)
        slots.stop(where, "green")
        slots.stop(where, "blue")
    assert set(statuses) == {200}
    assert policies == {built["blue"].policy}


@pytest.mark.usefixtures("nothing_left")
def test_bentos_are_killed_amid_a_canary_and_nobody_s_request_fails(tmp_path, capsys):
    where = places(home=tmp_path / "var", blue_port=free_port(), green_port=free_port(), store_url="")
    engine, port = open_store(where.store), free_port()
    add_items(engine, ITEMS)
    folders = {"blue": write_policy(tmp_path / "old"), "green": write_policy(tmp_path / "new", liked=3.0)}
    built = {colour: build_bento(PROJECT, folder, where.home, {}) for colour, folder in folders.items()}
    policies = {colour: one.policy for colour, one in built.items()}
    gateway = None
    try:
        target = {c: slots.start(where, c, built[c].tag, built[c].policy) for c in slots.COLOURS}
        rollout.install(engine, "blue", target["blue"], "test", "first")
        opened = rollout.begin(engine, policies["green"], "test", "try")
        rollout.start_canary(engine, opened.id, "green", target["green"], 0.5, "test", "go")
        gateway = gateway_process(where.home, port)
        with Load(f"http://127.0.0.1:{port}", rate=30) as load:
            for victim, left in (("green", "blue"), ("blue", "green")):
                begun = time.monotonic()
                until(lambda: all(load.since(begun)[policy] > 10 for policy in policies.values()))  # noqa: B023
                parent = psutil.Process(processes.find(where.home, victim).pid)
                family = [*parent.children(recursive=True), parent]  # each worker has a group of its own
                for one in family:
                    one.kill()
                psutil.wait_procs(family, 60)
                killed = time.monotonic() + 0.2
                until(lambda: load.since(killed)[policies[left]] > 30)  # noqa: B023
                assert set(load.since(killed)) == {policies[left]}
                slots.start(where, victim, built[victim].tag, built[victim].policy)
            until(lambda: load.since(killed)[policies["blue"]] > 10)
        assert load.failed == load.fallbacks == []
        with capsys.disabled():
            print(f"\ntwo Bentos killed in turn: {load.told()}")
    finally:
        if gateway is not None:
            gateway.terminate()
            gateway.wait(60)
        for colour in slots.COLOURS:
            slots.stop(where, colour)

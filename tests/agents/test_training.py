"""Training as a stage: what it learns, what it writes, and what a kill leaves."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from recloop import policy
from recloop.agents import TrainingError, train
from recloop.agents.train import greedy_return
from recloop.features import Catalogue, FeatureSpec, Steps
from recloop.market import UserModel
from recloop.settings import Params
from tests.agents.worlds import GOOD, HISTORY, ITEMS, params, world


def run(root: Path, chosen: Params, name: str = "policy") -> dict:
    return train(
        chosen, root / "features", root / "user_model", root / name, root / f"{name}-reports",
        root / "checkpoints",
    )  # fmt: skip


def curve(reports: Path) -> list[dict[str, float]]:
    with (reports / "learning_curve.csv").open() as file:
        return [{name: float(x) for name, x in row.items()} for row in csv.DictReader(file)]


def test_an_agent_learns_what_a_click_model_cannot_know_and_does_so_again(tmp_path):
    world(tmp_path)
    figures = run(tmp_path, params())
    market = UserModel.load(tmp_path / "user_model")
    spec = FeatureSpec.load(tmp_path / "features" / "spec.json")

    learnt = policy.load(tmp_path / "policy")

    def value(scores) -> float:
        def network(*observation):
            named = dict(zip(policy.artefact.INPUTS, map(np.asarray, observation), strict=True))
            return torch.as_tensor(scores(named))

        return greedy_return(network, market, 1, seed=5)

    rng = np.random.default_rng(0)
    by_chance = value(lambda observation: rng.random((len(observation["profile"]), ITEMS)))
    myopic = value(market.click_scores)
    assert value(learnt.scores) > 1.5 * max(by_chance, myopic), (value(learnt.scores), by_chance, myopic)
    assert learnt.scores(spec.observation(None, [], "phone", 0)).argmax() in GOOD

    rows = curve(tmp_path / "policy-reports")
    assert rows[-1]["env_steps"] == figures["env_steps"] >= 16_384
    assert rows[-1]["mean_return"] == figures["final_return"] <= figures["best_return"]
    assert figures["best_return"] == max(row["mean_return"] for row in rows)
    assert rows[0]["epsilon"] > rows[-1]["epsilon"] == pytest.approx(0.05)
    assert all(row["loss"] >= 0 for row in rows)
    assert json.loads((tmp_path / "policy-reports" / "training.json").read_text()) == figures
    assert not list((tmp_path / "checkpoints").iterdir())

    run(tmp_path, params(), "again")
    for file in (tmp_path / "policy").iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name


@pytest.mark.parametrize("name", ["dqn", "slateq"])
def test_a_large_catalogue_is_exported_to_be_searched(name, tmp_path):
    """Above ``exact_items``, where the network can be searched; the scores are those of the network."""
    world(tmp_path)
    chosen = params(algorithm=name, env_steps=256)
    serving = chosen.serving.model_copy(update={"exact_items": 5, "candidates": 6, "propensity_floor": 0.01})
    run(tmp_path, chosen)
    run(tmp_path, chosen.model_copy(update={"serving": serving}), "searched")
    whole, searched = policy.load(tmp_path / "policy"), policy.load(tmp_path / "searched")
    assert searched.manifest.candidates == (None if name == "slateq" else 6)
    spec = searched.spec
    observation = spec.observation(None, ["i3", "gone", "i5"], "phone", 0)
    wanted = whole.scores(observation)
    np.testing.assert_allclose(searched.scores(observation), wanted, atol=1e-4 * np.abs(wanted).max())
    drawn = searched.sampler.slates(observation, 5, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.scores[0], wanted[0, drawn.items[0]], atol=1e-4 * np.abs(wanted).max())
    assert (drawn.propensities >= 0.01).all()


def test_a_propensity_floor_that_cannot_be_met_is_refused_before_training(tmp_path):
    world(tmp_path)
    chosen = params()
    high = chosen.serving.model_copy(update={"propensity_floor": 0.1})
    with pytest.raises(TrainingError, match=r"12 items of at least 0\.1 each.*at most 0\.0833"):
        run(tmp_path, chosen.model_copy(update={"serving": high}))


def test_what_is_sold_out_is_no_part_of_a_greedy_return(tmp_path):
    world(tmp_path)
    market = UserModel.load(tmp_path / "user_model")

    def preferring(*order: int):
        """A network that ranks these items first."""
        scores = torch.zeros(ITEMS)
        scores[list(order)] = torch.arange(len(order), 0, -1).float()
        return lambda profile, context, history: scores.expand(len(profile), -1)

    available = np.ones(ITEMS, bool)
    available[GOOD] = False
    best, second = preferring(*GOOD, 11), preferring(11)
    wanted = greedy_return(second, market, 1, seed=5)
    assert greedy_return(best, market, 1, seed=5) > 1.5 * wanted
    assert greedy_return(best, market, 1, seed=5, available=available) == wanted
    available[:] = False
    empty = greedy_return(best, market, 2, seed=5, available=available)
    assert empty == 0


def test_an_empty_catalogue_is_refused(tmp_path):
    features = tmp_path / "features"
    features.mkdir()
    spec = FeatureSpec(
        item_ids=(), categories={}, scales={}, devices=(), history=HISTORY, rating_positive=4.0
    )
    spec.save(features / "spec.json")
    none = np.zeros(0, np.float32)
    Catalogue(np.zeros((0, 3), np.float32), none, none.astype(bool)).save(features / "items.npz")
    with pytest.raises(TrainingError, match="the catalogue is empty: add items"):
        run(tmp_path, params())


def test_a_user_model_of_another_catalogue_is_refused(tmp_path):
    world(tmp_path / "one")
    world(tmp_path / "two", items=ITEMS + 1)
    (tmp_path / "one" / "user_model").rename(tmp_path / "two" / "stale")
    with pytest.raises(TrainingError, match="knows 12 items, the catalogue has 13"):
        train(
            params(), tmp_path / "two" / "features", tmp_path / "two" / "stale", tmp_path / "policy",
            tmp_path, tmp_path / "checkpoints",
        )  # fmt: skip


SCRIPT = """
import sys
from pathlib import Path
from recloop.agents import train
from recloop.settings.params import Params
root = Path(sys.argv[1])
train(Params.model_validate_json((root / "params.json").read_text()), root / "features", root / "user_model",
      root / "policy", root / "policy-reports", root / "checkpoints")
"""


def interrupt(root: Path, sign: signal.Signals, beyond: int) -> tuple[int, str, int]:
    """Start a run, send the signal once a checkpoint beyond so many steps is there.

    Returns exit status, standard output with errors, and the newest checkpoint's steps.
    """

    def newest() -> int:
        return max((int(folder.name) for folder in root.glob("checkpoints/*/[0-9]*")), default=0)

    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while newest() <= beyond:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    helpers = psutil.Process(process.pid).children(recursive=True)
    helpers = [one for one in helpers if not one.name().endswith("Agent")]  # Ray's two agents take a minute
    process.send_signal(sign)
    output = process.communicate(timeout=250)[0]
    _, alive = psutil.wait_procs(helpers, timeout=100)
    assert not alive, f"left running: {alive}"
    return process.returncode, output, newest()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_was_stopped_and_then_killed_goes_on(tmp_path, capsys):
    world(tmp_path)
    chosen = params(env_steps=200_000)
    (tmp_path / "params.json").write_text(chosen.model_dump_json())
    status, output, stopped = interrupt(tmp_path, signal.SIGTERM, 0)
    assert status == 1
    assert f"stopped at {stopped} env steps; the next run goes on from there" in output
    status, output, killed = interrupt(tmp_path, signal.SIGKILL, stopped)
    assert status == -signal.SIGKILL
    assert f"going on at {stopped} env steps" in output
    figures = run(tmp_path, chosen)
    assert f"going on at {killed} env steps" in capsys.readouterr().out
    assert 0 < stopped < killed < figures["env_steps"]
    steps = [row["env_steps"] for row in curve(tmp_path / "policy-reports")]
    assert steps == sorted(set(steps))
    assert {stopped, killed, figures["env_steps"]} <= set(steps)
    policy.load(tmp_path / "policy")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_that_loses_its_learner_goes_on_from_its_checkpoint(tmp_path):
    world(tmp_path)
    chosen = params(env_steps=60_000, num_learners=1)
    (tmp_path / "params.json").write_text(chosen.model_dump_json())
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    while not list(tmp_path.glob("checkpoints/*/[0-9]*")):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    helpers = psutil.Process(process.pid).children(recursive=True)
    learners = [one for one in helpers if "ray::_Wrapped" in " ".join(one.cmdline())]  # the only actor
    assert len(learners) == 1, [one.cmdline()[:1] for one in helpers]
    learners[0].kill()
    output = process.communicate(timeout=600)[0]
    assert process.returncode == 0, output
    assert "a learner was lost" in output
    assert "going on at" in output
    policy.load(tmp_path / "policy")


@pytest.mark.parametrize("name", ["bc", "marwil", "cql", "iql", "top_k_reinforce"])
def test_what_learns_from_a_log_is_trained_by_the_stage_too(tmp_path, name):
    world(tmp_path)
    spec = FeatureSpec.load(tmp_path / "features" / "spec.json")
    rng, count = np.random.default_rng(0), 600
    slate = rng.permuted(np.tile(np.arange(ITEMS), (count, 1)), axis=1)[:, :3]
    person = np.arange(count) // 6
    clicked = np.where(slate[:, 0] < 6, 0, -1)
    Steps(
        user=person, session=person, ts=np.arange(count), clicked=clicked, slate=slate,
        profile=np.zeros((count, spec.profile_size), np.float32), done=np.arange(count) % 6 == 5,
        context=np.zeros((count, spec.context_size), np.float32), reward=(clicked >= 0).astype(np.float32),
        history=np.full((count, HISTORY), ITEMS), propensity=np.full((count, 3), 1 / ITEMS),
        position=np.tile(np.arange(3), (count, 1)),
    ).save(tmp_path / "features" / "train.npz")  # fmt: skip
    figures = run(tmp_path, params(algorithm=name))
    assert figures["algorithm"] == name
    assert policy.load(tmp_path / "policy").manifest.algorithm == name


def test_a_log_that_cannot_be_learnt_from_is_refused(tmp_path):
    world(tmp_path)
    spec, whole = FeatureSpec.load(tmp_path / "features" / "spec.json"), np.zeros((0, 1), np.int64)
    Steps(
        **dict.fromkeys(("user", "session", "ts", "clicked"), whole[:, 0]), slate=whole, position=whole,
        reward=np.zeros(0, np.float32), done=np.zeros(0, bool), propensity=np.zeros((0, 1)),
        profile=np.zeros((0, spec.profile_size), np.float32), history=np.zeros((0, HISTORY), np.int64),
        context=np.zeros((0, spec.context_size), np.float32),
    ).save(tmp_path / "features" / "train.npz")  # fmt: skip
    with pytest.raises(TrainingError, match="the log shows no item at all"):
        run(tmp_path, params(algorithm="bc"))

"""Ablation: the feature that carries everything is found, noise is told from it, and a kill loses nothing."""

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from scipy import stats
from typer.testing import CliRunner

from recloop.agents import TrainingError
from recloop.agents.ablate import EVERYTHING, Blanked, ablate, groups_of
from recloop.agents.inputs import read_inputs
from recloop.cli import app
from recloop.evaluation.ablation import effects
from recloop.settings import places
from tests.agents.worlds import ITEMS, params, tasting

NAMES = ("profile.age band", "profile.hair", "profile.taste", "context.moment", "context.device", "history",
         "item.category", "item.colour")  # fmt: skip


def small(algorithm: str = "lin_ucb", env_steps: int = 2048):
    found = params(algorithm=algorithm, env_steps=env_steps)
    return found.model_copy(update={"serving": found.serving.model_copy(update={"slate": 1})})


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("tasting")
    tasting(root)
    return root


def by_group(runs) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for run in runs:
        found.setdefault(run.group, []).append(run.mean_return)
    return found


def test_groups_cover_every_column_once(planted):
    inputs = read_inputs(planted / "features", planted / "user_model")
    groups = groups_of(inputs.spec, inputs.catalogue)
    assert tuple(groups) == NAMES
    for part, width in (
        ("profile", inputs.spec.profile_size), ("context", inputs.spec.context_size), ("item", 4)
    ):  # fmt: skip
        columns = [c for group in groups.values() if group.part == part for c in group.columns]
        assert sorted(columns) == list(range(width))


@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith("item")])
def test_only_what_is_hidden_is_not_seen_and_people_stay_as_they_are(planted, name):
    inputs = read_inputs(planted / "features", planted / "user_model")
    judge, group = inputs.judge, groups_of(inputs.spec, inputs.catalogue)[name]
    judge.seed(1)
    before = {key: x.clone() for key, x in judge.reset(50).items()}
    before["history"] = judge.history = torch.randint(ITEMS, before["history"].shape)
    after = Blanked(judge, group).observe()
    for part, seen in after.items():
        if part != group.part:
            assert torch.equal(seen, before[part])
        elif part == "history":
            assert (seen == ITEMS).all()
        else:
            kept = [c for c in range(seen.shape[1]) if c not in group.columns]
            assert torch.equal(seen[:, kept], before[part][:, kept])
            assert (seen[:, list(group.columns)] == 0).all()
            assert (before[part][:, list(group.columns)] != 0).any()
    assert all(torch.equal(judge.observe()[part], before[part]) for part in before)


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "steps"), [("dqn", 6144), ("lin_ucb", 2048)])
def test_what_carries_everything_is_needed_and_noise_is_not(planted, tmp_path, algorithm, steps):
    asked = ("profile.taste", "profile.hair", "item.colour")
    chosen = small(algorithm, steps)
    runs = by_group(ablate(chosen, planted / "features", planted / "user_model", tmp_path, 3, asked))
    everything = runs.pop(EVERYTHING)
    found = {one.group: one for one in effects(everything, runs)}
    assert min(everything) > 0.9
    assert found["profile.taste"].verdict == "needed"
    assert found["profile.taste"].mean_return == pytest.approx(0.5, abs=0.05)
    assert found["profile.hair"].verdict == found["item.colour"].verdict == "costs nothing to drop"


def test_intervals_are_those_of_the_paired_t_test():
    rng = np.random.default_rng(0)
    everything, *without = rng.normal(10, 1, (4, 5))
    for one in effects(everything, {str(n): row for n, row in enumerate(without)}):
        row = without[int(one.group)]
        low, high = stats.ttest_rel(row, everything).confidence_interval(0.95)
        assert (one.low, one.high) == pytest.approx((low, high))
        assert one.mean_return == pytest.approx(row.mean())


def test_verdicts_in_words():
    everything = [10.0, 10.2, 9.8]
    found = {
        one.group: one.verdict
        for one in effects(everything, {"noise": [10.01, 10.2, 9.81], "needed": [8.0, 8.2, 7.81]})
    }
    assert found == {"noise": "costs nothing to drop", "needed": "needed"}
    assert effects(everything, {"wild": [5.0, 12.0, 11.0]})[0].verdict == "cannot tell"
    with pytest.raises(ValueError, match="two seeds"):
        effects([1.0], {"one": [2.0]})


def test_a_group_that_is_not_known_is_named(planted, tmp_path):
    with pytest.raises(TrainingError, match=r"named item.size; there are profile.age band, .*item.colour"):
        ablate(small(), planted / "features", planted / "user_model", tmp_path, 2, ["item.size"])


SCRIPT = """
import sys
from pathlib import Path
from recloop.agents.ablate import ablate
from recloop.settings.params import Params
root, store = Path(sys.argv[1]), Path(sys.argv[2])
params = Params.model_validate_json((store.parent / "params.json").read_text())
ablate(params, root / "features", root / "user_model", store, 2, ["profile.taste", "history"])
"""


@pytest.mark.slow
def test_an_ablation_that_was_killed_goes_on(planted, tmp_path):
    chosen, store = small("lin_ucb", 4096), tmp_path / "store"
    (tmp_path / "params.json").write_text(chosen.model_dump_json())
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(planted), str(store)])
    while len(list(store.glob("*.json"))) < 2 or not list(store.glob("*/[0-9]*")):
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {file: file.stat().st_mtime_ns for file in store.glob("*.json")}
    arguments = chosen, planted / "features", planted / "user_model"
    asked = ["profile.taste", "history"]
    found = ablate(*arguments, store, 2, asked)
    assert 2 <= len(done) < len(found) == 6
    assert all(file.stat().st_mtime_ns == before for file, before in done.items())
    assert len(list(store.iterdir())) == 6, "a checkpoint was left"
    fresh = ablate(*arguments, tmp_path / "fresh", 2, asked)
    assert [run.group for run in found] == [run.group for run in fresh]
    kept = [run for run in fresh if run in found]
    assert len(kept) >= 5, "all but the run that was cut are the same to the last digit"


@pytest.mark.slow
def test_the_command_writes_table_plot_and_nested_runs(planted, tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "models" / "user_model").mkdir(parents=True)
    (tmp_path / "data" / "features").symlink_to(planted / "features")
    (tmp_path / "models" / "user_model" / "train").symlink_to(planted / "user_model")
    (tmp_path / "params.yaml").write_text(small("dqn", 1024).model_dump_json())
    monkeypatch.chdir(tmp_path)
    words = ["ablate", "--seeds", "2", "--algorithm", "lin_ucb", "--only", "profile.taste,history"]
    answer = CliRunner().invoke(app, [*words, "--json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    groups = {row["group"]: row for row in told["groups"]}
    assert groups.keys() == {"profile.taste", "history"}
    assert groups["profile.taste"]["difference"] < -0.3
    with Path("reports/ablation/ablation.csv").open() as file:
        rows = {row["group"]: row["verdict"] for row in csv.DictReader(file)}
    assert rows == {name: row["verdict"] for name, row in groups.items()}
    assert Path("reports/ablation/ablation.png").stat().st_size > 5000
    where = places()
    client = MlflowClient(where.mlflow)
    runs = client.search_runs([client.get_run(told["run"]).info.experiment_id])
    inner = {run.info.run_name: run for run in runs if run.data.tags.get("mlflow.parentRunId") == told["run"]}
    assert inner.keys() == {EVERYTHING, "profile.taste", "history"}
    assert inner["history"].data.tags["verdict"] == rows["history"]
    assert inner["profile.taste"].data.tags["algorithm"] == "lin_ucb"
    again = CliRunner().invoke(app, words)
    assert again.exit_code == 0, again.output
    assert "profile.taste" in again.stdout
    assert "verdict" in again.stdout


def test_the_command_refuses_what_it_cannot_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = CliRunner().invoke(app, ["ablate"])
    assert answer.exit_code == 1
    assert "recloop" not in answer.stdout
    assert "dvc repro user_model" in answer.stderr

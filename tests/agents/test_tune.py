"""The search of parameters: it finds, goes on after an end, and proposes what a person can review."""

import difflib
from pathlib import Path

import pytest
from mlflow import MlflowClient

from recloop.agents.algorithms import ALGORITHMS
from recloop.agents.tune import LOOKS, changed, search, shipped
from recloop.registry.nested import Part, log_nested
from recloop.settings import load_params, proposed
from recloop.settings.params import ParamsError
from recloop.settings.places import Places
from tests.agents.worlds import params, world


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_what_is_searched_is_in_params(name):
    whole = changed(load_params(), {"algorithm": name})
    start = shipped(whole)
    assert changed(whole, start) == whole
    assert len(start) >= 2


@pytest.mark.slow
def test_a_search_finds_better_parameters_and_goes_on_where_it_was(tmp_path):
    world(tmp_path)
    poor = params(env_steps=24_576, learning_rate=1e-6)
    arguments = (poor, tmp_path / "features", tmp_path / "user_model", tmp_path / "searches", 5)
    found = search(*arguments)
    assert len(found) == 5
    poorest = next(one for one in found if one.changes["learning_rate"] == 1e-6)
    assert found[0].score > 1.2 * poorest.score
    assert found[0].score == max(score for _, score in found[0].curve)
    assert all(len(one.curve) <= LOOKS for one in found)
    assert {one.env_steps for one in found} != {24_576}, "ASHA ended nobody"
    assert search(*arguments) == found


def test_a_search_becomes_nested_runs(tmp_path):
    trials = [
        Part("dqn 1", {"gamma": 0.9}, {"mean_return": [(10, 1.0), (20, 3.0)]}, {"place": "first"}),
        Part("dqn 2", {"gamma": 0.5}, {"mean_return": [(10, 2.0)]}),
    ]
    note = tmp_path / "params.diff"
    note.write_text("a change")
    where = Places(home=tmp_path / "home")
    where.home.mkdir()
    outer = log_nested(
        where, "recloop search", "search dqn", {"algorithm": "dqn"}, {"best_mean_return": 3.0}, trials, [note]
    )
    client = MlflowClient(where.mlflow)
    runs = client.search_runs([client.get_run(outer).info.experiment_id])
    inner = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == outer]
    assert {run.data.params["gamma"] for run in inner} == {"0.9", "0.5"}
    assert {run.data.tags["algorithm"] for run in runs} == {"dqn"}
    (first,) = (run for run in inner if run.data.tags.get("place") == "first")
    history = client.get_metric_history(first.info.run_id, "mean_return")
    assert [(point.step, point.value) for point in history] == [(10, 1.0), (20, 3.0)]
    assert client.get_run(outer).data.metrics["best_mean_return"] == 3.0
    assert all(run.info.status == "FINISHED" for run in runs)


def test_a_proposal_changes_values_and_keeps_comments():
    before = Path("params.yaml").read_text()
    after = proposed(before, {"gamma": 0.9123456, "network.history": "gru", "network.dim": 32})
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    changed_lines = [line for line in lines if not line[2:].isspace()]
    assert [line.split("#")[0].split() for line in changed_lines if line[0] == "+"] == [
        ["+", "gamma:", "0.9123"], ["+", "history:", "gru"],
    ]  # fmt: skip
    assert after.count("#") == before.count("#")


def test_a_change_that_params_do_not_know_is_refused():
    with pytest.raises((ParamsError, ValueError), match="network"):
        changed(load_params(), {"network.colour": 1})

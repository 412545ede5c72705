"""Where training runs: a GPU is taken where it is faster, not wherever there is one."""

import pytest
import ray
import torch

from recloop.agents import build
from tests.agents.mazes import agent


def placed(monkeypatch: pytest.MonkeyPatch, gpus: int = 1, **changes: object) -> tuple[float, str]:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0} | ({"GPU": gpus} if gpus else {}))
    chosen = agent("ppo", **{"num_gpus_per_learner": "auto"} | changes)
    return build._gpus_per_learner(chosen), build.market_device(chosen)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, (0.0, "cpu")),
        ({"users_at_once": 1024}, (1.0, "cpu")),
        ({"train_batch": 2048}, (1.0, "cpu")),
        ({"users_at_once": 4096}, (1.0, "cuda")),
        ({"users_at_once": 4096, "num_env_runners": 2}, (1.0, "cpu")),
        ({"users_at_once": 4096, "num_learners": 2}, (1.0, "cpu")),
        ({"users_at_once": 4096, "num_gpus_per_learner": 0.0}, (0.0, "cpu")),
        ({"users_at_once": 4096, "market_device": "cpu"}, (1.0, "cpu")),
        ({"users_at_once": 4096, "gpus": 0}, (0.0, "cpu")),
    ],
)
def test_auto_takes_a_gpu_for_many_people(monkeypatch, changes, wanted):
    assert placed(monkeypatch, **changes) == wanted


def test_what_is_asked_for_is_given(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert placed(monkeypatch, num_gpus_per_learner=0.5, market_device="cuda") == (0.5, "cuda")


def test_a_gpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="PyTorch sees no GPU here"):
        placed(monkeypatch, market_device="cuda")


def test_runners_and_a_market_on_the_gpu_are_refused():
    with pytest.raises(ValueError, match="set num_env_runners to 0"):
        agent("ppo", market_device="cuda", num_env_runners=2)

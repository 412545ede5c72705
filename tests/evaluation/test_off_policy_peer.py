"""The Open Bandit Pipeline on the same logs: where its definitions are ours, so are its figures.

It asks for Python 3.10 and old numpy, but its estimators run with ours: ``make peers`` installs it as it is.
"""

import warnings
from types import ModuleType

import numpy as np
import pytest

from recloop.evaluation.off_policy import Log, slope
from recloop.evaluation.off_policy.estimate import weighed
from recloop.evaluation.off_policy.estimators import (
    clipped,
    dm,
    dr,
    dr_optimistic,
    dr_pessimistic,
    ips,
    sndr,
    snips,
    switch_dr,
)
from recloop.evaluation.off_policy.slate import independent_weights

ROWS, ACTIONS, K = 3000, 7, 3


@pytest.fixture(scope="module")
def obp() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("obp.ope", reason="the Open Bandit Pipeline is not installed: make peers")


@pytest.fixture(scope="module")
def logged() -> dict[str, np.ndarray]:
    """A bandit's log as the Open Bandit Pipeline takes it."""
    rng = np.random.default_rng(0)
    logging, target = (rng.dirichlet(np.full(ACTIONS, a), ROWS) * 0.95 + 0.05 / ACTIONS for a in (2.0, 1.0))
    action = (logging.cumsum(1) > rng.random((ROWS, 1))).argmax(1)
    model = rng.random((ROWS, ACTIONS))
    rows = np.arange(ROWS)
    return {
        "reward": rng.random(ROWS) * (rng.random(ROWS) < 0.2 + 0.6 * model[rows, action]),
        "action": action,
        "pscore": logging[rows, action],
        "action_dist": target[:, :, None],
        "estimated_rewards_by_reg_model": model[:, :, None],
        "position": np.zeros(ROWS, np.int64),
    }


def ours(x: dict[str, np.ndarray]) -> Log:
    rows, target, model = (
        np.arange(ROWS),
        x["action_dist"][:, :, 0],
        x["estimated_rewards_by_reg_model"][:, :, 0],
    )
    return Log.of(
        (target[rows, x["action"]] / x["pscore"])[:, None],
        x["reward"][:, None],
        predicted=model[rows, x["action"]][:, None],
        direct=(target * model).sum(1),
    )


CASES = {
    "InverseProbabilityWeighting": ({}, ips, {}),
    "SelfNormalizedInverseProbabilityWeighting": ({}, snips, {}),
    "DirectMethod": ({}, dm, {}),
    "DoublyRobust": ({}, dr, {}),
    "SelfNormalizedDoublyRobust": ({}, sndr, {}),
    "SwitchDoublyRobust": ({"lambda_": 2.0}, switch_dr, {"threshold": 2.0}),
    "DoublyRobustWithShrinkage": ({"lambda_": 5.0}, dr_optimistic, {"shrinkage": 5.0}),
}


@pytest.mark.parametrize("name", CASES)
def test_bandit_estimators_agree(obp: ModuleType, logged: dict, name: str) -> None:
    settings, estimator, given = CASES[name]
    theirs = getattr(obp, name)(**settings).estimate_policy_value(**logged)
    assert estimator(weighed(ours(logged), "slate"), **given).mean() == pytest.approx(theirs, abs=1e-6)


def test_clipped_weights_agree(obp: ModuleType, logged: dict) -> None:
    """Its ``lambda_`` of IPW and DR is where weights are clipped: our ``clipped`` and ``dr_pessimistic``."""
    view = weighed(ours(logged), "slate")
    theirs = obp.InverseProbabilityWeighting(lambda_=3.0).estimate_policy_value(**logged)
    assert clipped(view, 3.0).mean() == pytest.approx(theirs, abs=1e-6)
    theirs = obp.DoublyRobust(lambda_=3.0).estimate_policy_value(**logged)
    assert dr_pessimistic(view, 3.0).mean() == pytest.approx(theirs, abs=1e-6)


@pytest.fixture(scope="module")
def slates() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    rows = 1500
    target, logging = (rng.random((K, ACTIONS)) + 0.2 for _ in range(2))
    target, logging = (x / x.sum(1, keepdims=True) for x in (target, logging))
    shown = np.stack([rng.choice(ACTIONS, rows, p=logging[j]) for j in range(K)], 1)
    return {"target": target, "logging": logging, "slates": shown, "reward": rng.random((rows, K))}


def flat(x: dict[str, np.ndarray], weights: str) -> dict[str, np.ndarray]:
    """Probabilities as its slate estimators take them: of the slate, up to a position, or at it."""
    chances = [x[name][np.arange(K), x["slates"]] for name in ("logging", "target")]
    if weights == "cascade":
        chances = [c.cumprod(1) for c in chances]
    elif weights == "":
        chances = [np.repeat(c.prod(1, keepdims=True), K, 1) for c in chances]
    suffix = {"cascade": "_cascade", "item_position": "_item_position", "": ""}[weights]
    rows = len(x["slates"])
    return {
        "slate_id": np.repeat(np.arange(rows), K),
        "reward": x["reward"].ravel(),
        "position": np.tile(np.arange(K), rows),
        f"pscore{suffix}": chances[0].ravel(),
        f"evaluation_policy_pscore{suffix}": chances[1].ravel(),
    }


@pytest.mark.parametrize(
    ("name", "theirs", "weighting"),
    [
        ("SlateStandardIPS", "", "slate"),
        ("SlateIndependentIPS", "item_position", "position"),
        ("SlateRewardInteractionIPS", "cascade", "prefix"),
    ],
)
@pytest.mark.parametrize("normalised", [False, True])
def test_slate_estimators_agree(
    obp: ModuleType, slates: dict, name: str, theirs: str, weighting: str, normalised: bool
) -> None:
    """Positions drawn independently, so that conditional probabilities are marginals."""
    ratio = independent_weights(slates["target"], slates["logging"], slates["slates"])
    view = weighed(Log.of(ratio, slates["reward"]), weighting)  # type: ignore[arg-type]
    peer = getattr(obp, f"SelfNormalized{name}" if normalised else name)(len_list=K)
    expected = peer.estimate_policy_value(**flat(slates, theirs))
    assert (snips if normalised else ips)(view).mean() == pytest.approx(expected, abs=1e-6)


def test_slope_takes_the_same_way(obp: ModuleType, logged: dict) -> None:
    """Its SLOPE++ compares by less than our SLOPE: it never goes further down the chain than ours."""
    lambdas = [10_000.0, 1000.0, 100.0, 30.0, 10.0, 3.0, 1.0, 0.1]
    tuned = obp.DoublyRobustWithShrinkageTuning(lambdas=list(lambdas), tuning_method="slope")
    tuned.estimate_policy_value(**logged)
    view = weighed(ours(logged), "slate")
    contributions = [dr_optimistic(view, s) for s in lambdas]
    widths = [1.645 * c.std(ddof=1) / ROWS**0.5 for c in contributions]
    at = slope([float(c.mean()) for c in contributions], [float(w) for w in widths])
    assert lambdas.index(tuned.best_hyperparam) <= at

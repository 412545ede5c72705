"""A user model finds what was put into a log, and says honestly how well it predicts."""

from pathlib import Path

import numpy as np
import pytest
import torch

from recloop.features import Catalogue, Steps
from recloop.market import UserModel
from recloop.market.fit import NothingToLearnError, fit_user_model
from recloop.market.measures import calibration_error, ranking_quality
from recloop.market.user_model import UserModelError
from recloop.settings.params import UserModelParams

ITEMS, SLOPE = 12, 0.3
PARAMS = UserModelParams(dim=4, epochs=40, batch=512, learning_rate=0.01, weight_clip=3)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def catalogue() -> Catalogue:
    features = np.random.default_rng(2).standard_normal((ITEMS, 3)).astype(np.float32)
    return Catalogue(features, np.zeros(ITEMS, np.float32), np.ones(ITEMS, bool))


def known_steps(sessions: int, k: int = 3, seed: int = 1) -> tuple[Steps, dict[str, np.ndarray]]:
    """A log of people whose every law is known; at most 12 requests a session, two sessions a person.

    Two groups of people: the second likes items the other way round. Item i is liked by ``liking[i]``,
    bought after a click with ``buying``, and moves the log-odds of staying by ``lasting[i]``.
    """
    rng = np.random.default_rng(seed)
    liking, lasting = np.linspace(-1.5, 1.5, ITEMS), rng.permutation(np.linspace(-1, 1, ITEMS))
    group = rng.integers(0, 2, sessions // 2).repeat(2)
    rows: dict[str, list] = {name: [] for name in ("user", "session", "slate", "clicked", "reward", "done")}
    for s in range(sessions):
        feeling = 0.0
        for step in range(12):
            slate = rng.permutation(ITEMS)[:k]
            utility = (1 - 2 * group[s]) * liking[slate] - 0.5 - SLOPE * np.arange(k)
            weight = np.exp(np.append(0, utility))
            clicked = int(rng.choice(k + 1, p=weight / weight.sum())) - 1
            bought = clicked >= 0 and rng.random() < 0.25
            feeling = 0.7 * feeling + (lasting[slate[clicked]] if clicked >= 0 else -0.2)
            done = step == 11 or rng.random() < sigmoid(np.array(-2 - feeling))
            values = (s // 2, s, slate, clicked, (clicked >= 0) + 4.0 * bought, done)
            for name, value in zip(rows, values, strict=True):
                rows[name].append(value)
            if done:
                break
    count = len(rows["user"])
    user = np.array(rows["user"])
    steps = Steps(
        user=user,
        session=np.array(rows["session"]),
        ts=np.arange(count),
        profile=np.eye(2, dtype=np.float32)[group[::2][user]],
        context=np.zeros((count, 1), np.float32),
        history=np.full((count, 4), ITEMS),
        slate=np.array(rows["slate"]),
        propensity=np.full((count, k), np.nan),
        position=np.tile(np.arange(k), (count, 1)),
        clicked=np.array(rows["clicked"]),
        reward=np.array(rows["reward"], np.float32),
        done=np.array(rows["done"]),
    )
    return steps, {"liking": liking, "lasting": lasting}


@pytest.fixture(scope="module")
def known() -> tuple[Steps, dict[str, np.ndarray], UserModel, dict[str, float]]:
    steps, truth = known_steps(2400)
    return steps, truth, *fit_user_model(steps, catalogue(), PARAMS, 7, "known")


Known = tuple[Steps, dict[str, np.ndarray], UserModel, dict[str, float]]


def test_it_recovers_the_tastes_of_both_groups(known: Known) -> None:
    _, truth, model, _ = known
    observation = {
        "profile": np.eye(2, dtype=np.float32),
        "context": np.zeros((2, 1), np.float32),
        "history": np.full((2, 4), ITEMS),
    }
    scores = model.click_scores(observation)
    for found, expected in zip(scores, (truth["liking"], -truth["liking"]), strict=True):
        assert np.corrcoef(found, expected)[0, 1] > 0.97
        slope = np.polyfit(expected, found, 1)[0]
        assert slope == pytest.approx(1, abs=0.2)


def test_it_recovers_position_bias_and_what_lasts(known: Known) -> None:
    _, truth, model, _ = known
    position = model.response.position.numpy()
    assert position[2] - position[0] == pytest.approx(2 * SLOPE, abs=0.15)
    effects = model.effects().numpy()
    assert np.corrcoef(effects, truth["lasting"])[0, 1] > 0.9
    assert np.polyfit(truth["lasting"], effects, 1)[0] == pytest.approx(1, abs=0.15)
    assert float(model.response.leaving.keep.sigmoid()) == pytest.approx(0.7, abs=0.08)


def test_it_is_calibrated_and_better_than_constants_on_people_held_out(known: Known) -> None:
    figures = known[3]
    for event in ("choice", "leave"):
        assert figures[f"{event}_loglik"] > figures[f"{event}_constant"] + 0.01
    assert figures["click_calibration_error"] < 0.04
    assert figures["leave_calibration_error"] < 0.04
    assert figures["click_auc"] > 0.55
    assert figures["leave_auc"] > 0.6


def test_its_people_behave_like_those_who_were_logged(known: Known) -> None:
    steps, _, model, _ = known
    model.seed(4)
    model.reset(6000)
    generator = torch.Generator().manual_seed(4)
    alive, lengths, clicks, total = torch.ones(6000, dtype=torch.bool), 0.0, 0.0, 0.0
    while alive.any():
        slates = torch.rand(6000, ITEMS, generator=generator).argsort(1)[:, :3]
        outcome = model.step(slates)
        lengths += float(alive.sum())
        clicks += float((alive & (outcome.clicked >= 0)).sum())
        total += float((outcome.reward * alive).sum())
        alive &= ~outcome.done
    assert lengths / 6000 == pytest.approx(len(steps) / (steps.session.max() + 1), rel=0.08)
    assert clicks / lengths == pytest.approx((steps.clicked >= 0).mean(), abs=0.03)
    assert total / lengths == pytest.approx(steps.reward.mean(), rel=0.08)


def test_equal_fits_give_equal_bytes_and_a_saved_model_steps_alike(tmp_path: Path) -> None:
    steps, _ = known_steps(60)
    for name in ("a", "b"):
        fit_user_model(steps, catalogue(), PARAMS, 7, "twice")[0].save(tmp_path / name)
    files = ("model.safetensors", "model.json")
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    model, again = fit_user_model(steps, catalogue(), PARAMS, 7, "live")[0], UserModel.load(tmp_path / "a")
    for market in (model, again):
        market.seed(3)
        market.reset(20)
    for _ in range(4):
        slates = torch.arange(3).repeat(20, 1)
        one, two = model.step(slates), again.step(slates)
        for name in ("clicked", "bought", "reward", "done"):
            assert torch.equal(getattr(one, name), getattr(two, name))
        model.arrive(one.done)
        again.arrive(two.done)


@pytest.mark.parametrize("bought", [0.1, 0.9])
def test_rewards_add_up_to_the_logs_however_many_clicks_end_in_a_purchase(bought: float) -> None:
    steps, _ = known_steps(200)
    clicked = steps.clicked >= 0
    extra = np.random.default_rng(1).random(len(steps)) < bought
    reward = np.where(clicked, 1 + 4.0 * extra, -0.5).astype(np.float32)
    steps = Steps(**vars(steps) | {"reward": reward})
    model, _ = fit_user_model(steps, catalogue(), PARAMS, 7, "rewards")
    click, beyond, nothing = model.worth
    assert (click, beyond, nothing) == pytest.approx((1, 4, -0.5))


def test_single_items_without_propensities_can_be_learnt_from() -> None:
    steps, truth = known_steps(800, k=1)
    model, figures = fit_user_model(steps, catalogue(), PARAMS, 7, "single")
    assert figures["choice_loglik"] > figures["choice_constant"]
    observation = {name: x[:1] for name, x in steps.observation().items()}
    sign = 1 if steps.profile[0, 0] else -1
    assert np.corrcoef(model.click_scores(observation)[0], sign * truth["liking"])[0, 1] > 0.9
    model.reset(10)
    assert model.step(torch.arange(5).repeat(10, 1)).clicked.max() < 5


def test_where_nobody_comes_back_sessions_have_one_request() -> None:
    steps, _ = known_steps(400)
    count = len(steps)
    rare = np.where(np.random.default_rng(1).random(count) < 0.02, steps.clicked, -1)
    alone = {"session": np.arange(count), "done": np.ones(count, bool), "clicked": rare}
    steps = Steps(**vars(steps) | alone | {"reward": (rare >= 0).astype(np.float32)})
    model, figures = fit_user_model(steps, catalogue(), PARAMS, 7, "rare")
    assert all(np.isfinite(list(figures.values())))
    assert "leave_auc" not in figures  # of one kind alone, there is no order to judge
    model.reset(3000)
    outcome = model.step(torch.arange(3).repeat(3000, 1))
    assert outcome.done.all()
    assert float((outcome.clicked >= 0).double().mean()) == pytest.approx((rare >= 0).mean(), abs=0.02)


def test_what_only_fits_by_chance_is_not_learnt() -> None:
    """Where people held out react to nothing in the log's way, constants are kept."""
    steps, _ = known_steps(60)
    rng = np.random.default_rng(3)
    noise = rng.integers(-1, 3, len(steps)), rng.random(len(steps)) < 0.2
    last = steps.done.copy()
    steps = Steps(
        **vars(steps)
        | {"clicked": noise[0], "done": last | noise[1], "slate": rng.permuted(steps.slate, axis=1)}
    )
    eager = PARAMS.model_copy(update={"learning_rate": 0.5})
    figures = fit_user_model(steps, catalogue(), eager, 7, "noise")[1]
    for event in ("choice", "leave"):
        assert figures[f"{event}_loglik"] > figures[f"{event}_constant"] - 0.05


@pytest.mark.parametrize(
    ("change", "why"),
    [({"clicked": -1}, "no click"), ({"user": 0}, "one person")],
)
def test_a_log_that_teaches_nothing_is_refused(change: dict[str, int], why: str) -> None:
    steps, _ = known_steps(20)
    arrays = {name: np.full(len(steps), value) for name, value in change.items()}
    with pytest.raises(NothingToLearnError, match=why):
        fit_user_model(Steps(**vars(steps) | arrays), catalogue(), PARAMS, 7, "empty")


@pytest.mark.parametrize("damage", ["missing", "truncated", "not json", "other layout"])
def test_a_damaged_model_says_what_to_do(known: Known, tmp_path: Path, damage: str) -> None:
    known[2].save(tmp_path)
    weights, facts = tmp_path / "model.safetensors", tmp_path / "model.json"
    if damage == "missing":
        weights.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "not json":
        facts.write_text("{")
    else:
        facts.write_text("{}")
    with pytest.raises(UserModelError, match="dvc repro"):
        UserModel.load(tmp_path)


def test_calibration_error_of_known_chances() -> None:
    seen = torch.tensor([0.0, 1.0] * 50)
    assert calibration_error(torch.full((100,), 0.5), seen) == pytest.approx(0)
    assert calibration_error(torch.full((100,), 0.8), seen) == pytest.approx(0.3)
    assert calibration_error(seen, seen) == 0
    assert calibration_error(1 - seen, seen) == 1
    chances = torch.linspace(0.1, 0.9, 40_000)
    drawn = (torch.rand(40_000, generator=torch.Generator().manual_seed(1)) < chances).float()
    assert calibration_error(chances, drawn) < 0.01
    assert calibration_error(chances.square(), drawn) == pytest.approx(1 / 2 - 0.91 / 3, abs=0.01)


def test_ranking_quality_of_known_orders() -> None:
    seen = torch.tensor([0.0, 0.0, 1.0, 1.0])
    assert ranking_quality(torch.tensor([0.1, 0.2, 0.3, 0.4]), seen) == 1
    assert ranking_quality(torch.tensor([0.4, 0.3, 0.2, 0.1]), seen) == 0
    assert ranking_quality(torch.tensor([0.5, 0.5, 0.5, 0.5]), seen) == 0.5
    assert ranking_quality(torch.tensor([0.1, 0.3, 0.2, 0.4]), seen) == 0.75

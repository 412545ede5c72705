"""What a log's cases count and leave out; and bad logs, which are refused by name."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.features import Catalogue, Steps
from recloop.market import UserModel
from recloop.market.fit import BadLogError, fit_user_model, held_out_predictions
from recloop.market.likelihood import request_numbers, weights
from recloop.market.measures import calibration_error, reliability
from tests.market.test_user_model import ITEMS, PARAMS, catalogue, known_steps


def test_a_slate_shown_half_as_often_counts_twice() -> None:
    propensity = np.array([[0.5, 0.5], [0.25, 0.25]])
    found = weights(propensity, np.ones((2, 2), bool), 10)
    assert found == pytest.approx([2 / 3, 4 / 3])
    one = weights(np.array([[0.5, np.nan], [0.25, np.nan]]), np.array([[True, False]] * 2), 10)
    assert one == pytest.approx([2 / 3, 4 / 3]), "padding takes no part"


def test_what_is_not_known_or_cannot_be_counts_one() -> None:
    odd = np.array([[np.nan], [0.0], [-1.0], [1.5], [0.4], [0.4]])
    assert weights(odd, np.ones((6, 1), bool), 10) == pytest.approx(np.ones(6))
    assert weights(np.full((3, 2), np.nan), np.ones((3, 2), bool), 10) == pytest.approx(np.ones(3))
    tiny = weights(np.array([[1e-300], [1.0], [1.0]]), np.ones((3, 1), bool), 2.0)
    assert tiny[0] / tiny[1] == pytest.approx(4)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(1e-12, 1), min_size=3, max_size=3), min_size=1, max_size=20),
    st.floats(1, 50),
)
def test_weights_are_normalised_and_clipped(rows: list[list[float]], clip: float) -> None:
    propensity = np.array(rows)
    found = weights(propensity, np.ones_like(propensity, bool), clip)
    assert found.mean() == pytest.approx(1, abs=1e-4)
    assert found.max() / found.min() <= clip**2 * 1.001
    order = np.argsort(np.log(propensity).sum(1), kind="stable")
    assert (np.diff(found[order]) <= 1e-5).all(), "the rarer a slate, the more it counts"


def test_weights_turn_an_uneven_log_into_an_even_one() -> None:
    """Of two slates one is shown nine times as often; weighted, both count alike."""
    rng = np.random.default_rng(1)
    shows = rng.random(4000) < 0.9
    propensity = np.where(shows, 0.9, 0.1)[:, None]
    clicked = rng.random(4000) < np.where(shows, 0.2, 0.6)
    weight = weights(propensity, np.ones((4000, 1), bool), 100)
    assert np.average(clicked, weights=weight) == pytest.approx(0.4, abs=0.03)
    assert clicked.mean() < 0.3


def test_requests_are_numbered_within_their_session() -> None:
    steps, _ = known_steps(30)
    found = request_numbers(steps)
    assert found.max() == np.bincount(steps.session).max()
    for session in range(3):
        assert found[steps.session == session].tolist() == list(
            range(1, (steps.session == session).sum() + 1)
        )


def test_being_sent_home_at_the_horizon_says_nothing_of_what_was_seen() -> None:
    """Without any wish to leave, whose sessions all end at the horizon, no item has an effect."""
    steps, _ = known_steps(600)
    keep = np.isin(steps.session, np.flatnonzero(np.bincount(steps.session) == 12))
    whole = Steps(**{name: x[keep] for name, x in vars(steps).items()})
    session = np.cumsum(np.append(True, np.diff(whole.session) != 0)) - 1
    whole = Steps(**vars(whole) | {"session": session})
    assert whole.done[11::12].all()
    model, figures = fit_user_model(whole, catalogue(), PARAMS, 7, "whole")
    assert model.effects().abs().max() < 0.1
    model.reset(500)
    outcomes = [model.step(torch.arange(3).repeat(500, 1)).done for _ in range(12)]
    assert not torch.stack(outcomes[:11]).double().mean() > 0.02
    assert outcomes[11].all()
    assert all(np.isfinite(list(figures.values())))


def test_held_out_predictions_are_those_that_the_figures_judge() -> None:
    steps, _ = known_steps(300)
    model, figures = fit_user_model(steps, catalogue(), PARAMS, 7, "held")
    found = held_out_predictions(model, steps, 7)
    for event, (chance, seen) in found.items():
        assert calibration_error(chance, seen) == pytest.approx(figures[f"{event}_calibration_error"])
        cases, predicted, share = reliability(chance, seen).T
        assert cases.sum() == len(seen)
        assert (predicted.diff() > 0).all()
        assert float((cases * share).sum()) == pytest.approx(float(seen.sum()))


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("reward", np.nan, "1 of .* reward that is not finite"),
        ("reward", np.inf, "reward"),
        ("profile", np.nan, "profile"),
        ("context", -np.inf, "context"),
        ("slate", ITEMS + 1, "catalogue of 12 has not"),
        ("slate", -1, "catalogue of 12 has not"),
    ],
)
def test_a_log_with_broken_numbers_is_refused(name: str, value: float, why: str) -> None:
    steps, _ = known_steps(20)
    broken = getattr(steps, name).copy()
    broken[3] = value
    with pytest.raises(BadLogError, match=why):
        fit_user_model(Steps(**vars(steps) | {name: broken}), catalogue(), PARAMS, 7, "broken")


def test_an_empty_or_broken_catalogue_is_refused() -> None:
    steps, _ = known_steps(20)
    nothing = Catalogue(np.zeros((0, 3), np.float32), np.zeros(0, np.float32), np.zeros(0, bool))
    with pytest.raises(BadLogError, match="catalogue is empty"):
        fit_user_model(steps, nothing, PARAMS, 7, "empty")
    whole = catalogue()
    odd = whole.features.copy()
    odd[2, 1] = np.nan
    with pytest.raises(BadLogError, match="item features"):
        fit_user_model(steps, Catalogue(odd, whole.popularity, whole.available), PARAMS, 7, "odd")


def test_a_catalogue_of_one_item_is_learnt() -> None:
    steps, _ = known_steps(300, k=1)
    count = len(steps)
    alone = {"slate": np.zeros((count, 1), np.int64), "history": np.ones((count, 4), np.int64)}
    one = Catalogue(np.ones((1, 3), np.float32), np.zeros(1, np.float32), np.ones(1, bool))
    model, figures = fit_user_model(Steps(**vars(steps) | alone), one, PARAMS, 7, "single item")
    assert all(np.isfinite(list(figures.values())))
    model.reset(2000)
    share = float((model.step(torch.zeros(2000, 1, dtype=torch.int64)).clicked == 0).double().mean())
    assert share == pytest.approx((steps.clicked >= 0).mean(), abs=0.06)


@pytest.fixture(scope="module")
def small() -> UserModel:
    steps, _ = known_steps(100)
    return fit_user_model(steps, catalogue(), PARAMS, 7, "small")[0]


def test_unknown_items_of_a_history_say_nothing(small: UserModel) -> None:
    base = {"profile": np.eye(2, dtype=np.float32)[:1], "context": np.zeros((1, 1), np.float32)}
    known = small.click_scores(base | {"history": np.array([[3, ITEMS, ITEMS, ITEMS]])})
    for odd in (ITEMS + 7, -1, 10**9):
        found = small.click_scores(base | {"history": np.array([[3, odd, odd, odd]])})
        assert np.array_equal(found, known)
    nobody = small.click_scores(base | {"history": np.full((1, 4), ITEMS)})
    assert np.isfinite(nobody).all()
    assert not np.allclose(nobody, known)


def test_empty_places_are_never_chosen_and_a_slate_may_outgrow_the_catalogue(small: UserModel) -> None:
    before = small.reset(50)["history"]
    outcome = small.step(torch.full((50, 3), ITEMS))
    assert (outcome.clicked == -1).all()
    assert not outcome.bought.any()
    assert torch.equal(small.observe()["history"], before)
    longer = torch.cat([torch.arange(ITEMS), torch.full((8,), ITEMS)]).repeat(50, 1)
    assert (small.step(longer).clicked < ITEMS).all()


@pytest.mark.parametrize(
    ("slates", "why"),
    [
        (torch.zeros(50, 0, dtype=torch.int64), "at least 1"),
        (torch.zeros(49, 2, dtype=torch.int64), "B = 50"),
        (torch.zeros(50, dtype=torch.int64), "B = 50"),
        (torch.full((50, 2), ITEMS + 1), "names item 13"),
        (torch.full((50, 2), -1), "names item -1"),
    ],
)
def test_a_slate_that_cannot_be_shown_is_refused(small: UserModel, slates: torch.Tensor, why: str) -> None:
    small.reset(50)
    with pytest.raises(ValueError, match=why):
        small.step(slates)

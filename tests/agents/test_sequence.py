"""The next-item model: what it may look at, what it learns, and its two losses."""

import math

import numpy as np
import pytest
import torch

from recloop.agents.sequence import NextItem, Sizes, _loss, fit, padded, windows

TINY = Sizes(dim=16, blocks=1, heads=2, length=8, dropout=0.0, rate=0.01, batch=16, epochs=12, every=3)


def cycles(people: int, items: int) -> list[np.ndarray]:
    """Everyone walks around the same circle, from a start of one's own."""
    return [(np.arange(7) + start) % items for start in range(people)]


@pytest.mark.parametrize(("loss", "share"), [("softmax", 0.95), ("bce", 0.15)])
def test_it_learns_what_always_comes_next(loss, share) -> None:
    """One negative a step tells little of 40 items in so few passes: six times chance."""
    log, following = cycles(120, 40), (np.arange(120) + 7) % 40
    sizes = Sizes(**{**vars(TINY), "epochs": 30, "patience": 30})

    def right(model: NextItem) -> float:
        return float((model.rank(log).argmax(1) == following).mean())

    assert right(fit(log, 40, loss, sizes, seed=0, judge=right)) >= share


def test_the_future_does_not_reach_the_past() -> None:
    torch.manual_seed(0)
    model = NextItem(20, TINY).eval()
    past = torch.randint(0, 20, (4, 8))
    other = past.clone()
    other[:, 5:] = torch.randint(0, 20, (4, 3))
    one, two = model.states(past), model.states(other)
    torch.testing.assert_close(one[:, :5], two[:, :5])
    assert not torch.allclose(one[:, 5:], two[:, 5:])


def test_padding_and_what_is_too_old_change_nothing() -> None:
    torch.manual_seed(0)
    model, rng = NextItem(20, TINY), np.random.default_rng(0)
    rows = [rng.integers(0, 20, n) for n in (1, 3, 8, 13)]
    together = model.rank(rows)
    for row, scores in zip(rows, together, strict=True):
        np.testing.assert_allclose(model.rank([row])[0], scores, atol=1e-5)
    np.testing.assert_allclose(model.rank([rows[3][-8:]])[0], together[3], atol=1e-5)
    assert np.isfinite(model.rank([np.zeros(0, np.int64)])).all()  # a stranger


def test_every_step_of_a_long_past_is_learnt_once_a_pass() -> None:
    log = [np.arange(n) for n in (2, 5, 9, 10, 40, 1)]
    seen = [0] * len(log)
    for cuts in windows(log, 8, 3, np.random.default_rng(1)):
        assert len(cuts) <= 3
        for person, cut in cuts:
            window = log[person][cut]
            assert 2 <= len(window) <= 9
            seen[person] += len(window) - 1
    assert seen == [1, 4, 8, 9, 39, 0]


def test_the_losses_of_a_model_that_knows_nothing() -> None:
    """Equal scores: log N, and 2 log 2."""
    log, rng = cycles(4, 10), np.random.default_rng(0)
    model = NextItem(10, TINY)
    torch.nn.init.zeros_(model.item.weight)
    cuts = [(person, slice(0, 7)) for person in range(4)]
    assert _loss(model, log, cuts, "softmax", rng).item() == pytest.approx(math.log(10), rel=1e-6)
    assert _loss(model, log, cuts, "bce", rng).item() == pytest.approx(2 * math.log(2), rel=1e-6)


def test_the_same_seed_gives_the_same_model_and_an_empty_log_is_refused() -> None:
    log, short = cycles(20, 10), Sizes(**{**vars(TINY), "epochs": 3})
    one, two = (fit(log, 10, "softmax", short, 5, lambda _: 0.0).rank(log) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert padded([], 3).shape == (0, 1)
    with pytest.raises(ValueError, match="nobody has met two items"):
        fit([np.array([1])], 10, "softmax", short, 0, lambda _: 0.0)

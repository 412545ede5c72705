"""Leaks that are planted, each in its own way in, and logs that are sound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recloop.evaluation import leave_last_out, time_split
from recloop.evaluation.leakage import (
    LeakageError,
    hidden_leaks,
    history_leaks,
    item_leaks,
    popularity_before,
    refuse,
    training_leaks,
)
from recloop.features import Acts, Steps

N, H = 6, 3


def world(seed: int, rows: int = 60) -> tuple[Steps, Acts]:
    """A log whose histories hold exactly the newest acts before each request; some acts answer none."""
    rng = np.random.default_rng(seed)
    user = np.sort(rng.integers(0, 5, rows))
    ts = np.arange(rows) * 10
    slate = np.stack([rng.permutation(N)[:2] for _ in range(rows)])
    clicked = rng.integers(-1, 2, rows)
    acts, history = [], np.full((rows, H), N)
    for row in range(rows):
        past = [item for who, item, when in acts if who == user[row] and when < ts[row]][::-1][:H]
        history[row, : len(past)] = past
        if clicked[row] >= 0:
            acts.append((user[row], slate[row, clicked[row]], ts[row]))
        if rng.random() < 0.2:
            acts.append((user[row], rng.integers(0, N), ts[row] + 5))  # on an item that nobody showed
    columns = np.array(acts).T
    nothing = np.zeros((rows, 1), np.float32)
    half, places, ones = np.full((rows, 2), 0.5), np.tile([0, 1], (rows, 1)), np.ones(rows)
    shown = ts, nothing, nothing, history, slate, half, places, clicked
    steps = Steps(user, np.arange(rows), *shown, ones.astype(np.float32), ones.astype(bool))
    return steps, Acts(*columns)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_sound_log_leaks_nothing(seed: int) -> None:
    steps, acts = world(seed)
    assert history_leaks(steps, acts, N) == []
    assert hidden_leaks(leave_last_out(steps, N), steps, acts) == []
    assert hidden_leaks(time_split(steps, N, 300), steps, acts) == []


def first_time(steps: Steps, acts: Acts) -> int:
    """A row at which its person acts on something for the first time."""
    for row in range(len(steps) - 1, -1, -1):
        if steps.clicked[row] >= 0:
            item = steps.slate[row, steps.clicked[row]]
            mine = acts.ts[(acts.user == steps.user[row]) & (acts.item == item)]
            if mine.min() == steps.ts[row]:
                return row
    raise AssertionError("no such row in this world")


def test_the_target_in_the_history_is_caught() -> None:
    steps, acts = world(1)
    row = first_time(steps, acts)
    history = steps.history.copy()
    history[row] = [steps.slate[row, steps.clicked[row]], *history[row, :-1]]  # as of after the act
    planted = replace(steps, history=history)
    (leak,) = history_leaks(planted, acts, N)
    assert (leak.way, leak.count, leak.checked) == ("history", 1, len(steps))
    assert f"row {row}" in leak.why
    with pytest.raises(LeakageError, match="1 of 60 histories hold an item that the person acted on only"):
        refuse([leak])


def test_histories_that_are_a_request_late_are_caught_by_each_protocol() -> None:
    """The classic slip: the history includes the act that answers the request."""
    steps, acts = world(2)
    history = steps.history.copy()
    acted = np.flatnonzero(steps.clicked >= 0)
    chosen = steps.slate[acted, steps.clicked[acted]]
    history[acted] = np.hstack([chosen[:, None], history[acted, :-1]])
    planted = replace(steps, history=history)
    for hidden in (leave_last_out(planted, N), time_split(planted, N, 300)):
        assert hidden_leaks(hidden, steps, acts) == []
        (leak,) = hidden_leaks(hidden, planted, acts)
        assert leak.checked == len(hidden)


def test_the_history_of_another_person_is_caught() -> None:
    steps, acts = world(3)
    planted = replace(steps, history=np.roll(steps.history, 15, axis=0))
    assert history_leaks(planted, acts, N)


def test_training_rows_after_the_split_are_caught() -> None:
    steps, _ = world(4)
    assert training_leaks(steps.ts[:30], at=int(steps.ts[30])) == []
    (leak,) = training_leaks(steps.ts[:31], at=int(steps.ts[30]))
    assert (leak.way, leak.count, leak.checked) == ("training", 1, 31)


def test_item_features_from_after_the_split_are_caught() -> None:
    _, acts = world(5)
    before = popularity_before(acts, N, at=300)
    assert (
        item_leaks(popularity_before(Acts(*(x[acts.ts < 300] for x in vars(acts).values())), N), before) == []
    )
    whole = popularity_before(acts, N)
    (leak,) = item_leaks(whole, before)
    assert leak.way == "items"
    assert leak.count == (whole != before).sum()
    features = np.stack([before, before], 1)
    planted = features.copy()
    planted[2, 1] += 1e-3
    assert "the first is item 2" in item_leaks(planted, features)[0].why


def test_no_leak_stops_nothing() -> None:
    refuse([])
    nothing = Acts(*(np.zeros(0, np.int64),) * 3)
    steps, _ = world(6)
    assert history_leaks(steps, nothing, N)[0].count == (steps.history < N).any(1).sum()

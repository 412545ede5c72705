"""The demo's last word names those who beat the policy, too."""

import pytest

from flows.rounds import standing

RIVALS = {"random": {"low": 4.0, "high": 5.0}, "most_popular": {"low": 1.0, "high": 2.0}}


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (6.0, 7.0, "clearly more than random, most popular"),
        (2.5, 3.5, "clearly more than most popular; clearly less than random"),
        (0.1, 0.5, "clearly less than random, most popular"),
        (1.5, 4.5, "not clearly more than any baseline"),
    ],
)
def test_whom_it_beats_and_who_beats_it(low, high, said):
    assert standing({"low": low, "high": high}, RIVALS) == said

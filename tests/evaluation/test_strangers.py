"""The non-personalised mode sees what a slot sees of a stranger, and nothing of the person."""

import numpy as np

from recloop.evaluation.strangers import to_strangers
from recloop.features import FeatureSpec
from recloop.policy import Sampler
from recloop.schema import User

SPEC = FeatureSpec(
    item_ids=("a", "b", "c"), categories={"sex": ("F", "M")}, scales={}, devices=("phone",), history=2,
    rating_positive=4.0,
)  # fmt: skip


def test_a_stranger_s_scores_are_those_of_the_slot_s_empty_observation():
    seen = []

    def score(observation):
        seen.append(observation)
        rows = [np.concatenate([p, c, h]) for p, c, h in zip(*observation.values(), strict=True)]
        return np.array([[row @ np.arange(len(row)), row.sum(), 0] for row in rows], np.float32)

    ts = 1_700_000_000_000_000
    people = [SPEC.observation(User(user_id="u", age=30, sex="F"), ["a", "b"], "phone", ts),
              SPEC.observation(User(user_id="v", age=60, sex="M"), ["c"], "phone", ts)]  # fmt: skip
    both = {name: np.concatenate([one[name] for one in people]) for name in people[0]}
    nobody = SPEC.observation(None, [], "phone", ts)
    personal = Sampler(score, 1.0, 0.1)
    assert not np.array_equal(*personal.score(both)), "the person counts"
    found = to_strangers(personal, SPEC).score(both)
    np.testing.assert_array_equal(found, np.repeat(personal.score(nobody), 2, 0))

"""Target encoding: known answers, and leaks that are planted to be found."""

import numpy as np
import pytest

from recloop.features.encoding import ALL, Encoding, fold_of

FOLDS, PEOPLE = 5, 3000
IDS = [f"u{i}" for i in range(PEOPLE)]


def test_a_person_gets_the_smoothed_mean_of_the_others_with_the_word():
    ids = IDS[:40]
    words = ["a" if i % 2 else "b" for i in range(40)]
    requests, rewards = np.arange(40) % 3 + 1, np.arange(40) % 7 * 0.5
    fitted = Encoding.fit(words, ids, requests, rewards, FOLDS, smoothing=4.0)
    fold = np.array([fold_of(user_id, FOLDS) for user_id in ids])
    for i, (word, user_id) in enumerate(zip(words, ids, strict=True)):
        others = fold != fold[i]
        prior = rewards[others].sum() / requests[others].sum()
        same = others & (np.array(words) == word)
        expected = (rewards[same].sum() + 4 * prior) / (requests[same].sum() + 4)
        assert fitted.of(word, user_id) * fitted.std + fitted.mean == pytest.approx(expected)
        assert fitted.of("never", user_id) * fitted.std + fitted.mean == pytest.approx(prior)
    everybody = (rewards.sum() / requests.sum() - fitted.mean) / fitted.std
    assert fitted.of(None, None) == pytest.approx(everybody)
    assert fold_of(None, FOLDS) == ALL


def encoded(words, rewards, ids=IDS):
    fitted = Encoding.fit(words, ids, np.ones(len(ids)), rewards, FOLDS, smoothing=1.0)
    return np.array([fitted.of(word, user_id) for word, user_id in zip(words, ids, strict=True)])


def test_a_word_that_says_nothing_tells_nothing_of_its_own_people():
    """Three people a word, luck for a reward: an encoding that saw the own target would correlate at 0.5."""
    rng = np.random.default_rng(0)
    words, rewards = [f"w{i // 3}" for i in range(PEOPLE)], rng.normal(size=PEOPLE)
    own = {word: rewards[i * 3 : i * 3 + 3].mean() for i, word in enumerate(dict.fromkeys(words))}
    leaked = np.corrcoef([own[word] for word in words], rewards)[0, 1]
    assert leaked > 0.5
    assert abs(np.corrcoef(encoded(words, rewards), rewards)[0, 1]) < 0.1


def test_a_word_of_ones_own_is_worth_what_everyone_is():
    """The plainest leak: an id as a category, whose mean is the target itself."""
    rewards = np.random.default_rng(1).normal(size=PEOPLE)
    assert abs(np.corrcoef(encoded(IDS, rewards), rewards)[0, 1]) < 0.1


def test_changing_ones_own_reward_leaves_ones_feature_and_moves_the_others():
    words, rewards = ["w"] * 50, np.zeros(50)
    fitted = Encoding.fit(words, IDS[:50], np.ones(50), rewards, FOLDS, 1.0)
    rewards[7] = 100
    changed = Encoding.fit(words, IDS[:50], np.ones(50), rewards, FOLDS, 1.0)
    fold = fold_of(IDS[7], FOLDS)
    assert changed.words["w"][fold] == fitted.words["w"][fold]
    assert all(changed.words["w"][f] > fitted.words["w"][f] for f in range(FOLDS + 1) if f != fold)


def test_a_word_that_says_something_is_learnt():
    rng = np.random.default_rng(2)
    worth = rng.normal(size=60)
    which = rng.integers(0, 60, PEOPLE)
    rewards = worth[which] + rng.normal(size=PEOPLE)
    found = encoded([f"w{i}" for i in which], rewards)
    assert np.corrcoef(found, worth[which])[0, 1] > 0.95

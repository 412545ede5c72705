"""Refusals: a fault is planted in a sound log, and the reason names it; a sound log is not refused."""

from dataclasses import replace

import numpy as np
import pytest

from recloop.evaluation.off_policy import (
    Log,
    calibrate,
    choose,
    diagnose,
    estimate,
    read_log,
)
from recloop.features import Steps
from recloop.policy import Sampler, draw, uniform

ITEMS, ROWS, K = 12, 4000, 2
MERIT = np.linspace(-1.5, 1.5, ITEMS).astype(np.float32)


def sampler(scores: np.ndarray, temperature: float = 1.0) -> Sampler:
    return Sampler(lambda o: np.tile(scores, (len(o["profile"]), 1)), temperature, 0.1)


LOGS, TARGET = sampler(-MERIT), sampler(MERIT, 1.5)


def steps_of(slates: np.ndarray, propensity: np.ndarray, rng: np.random.Generator, rows: int = ROWS) -> Steps:
    liked = rng.random(slates.shape) < 0.1 + 0.5 * (slates / ITEMS)
    clicked = np.where(liked.any(1), liked.argmax(1), -1)
    return Steps(
        user=np.arange(rows) // 4, session=np.arange(rows) // 4, ts=np.arange(rows),
        profile=np.zeros((rows, 1), np.float32), context=np.zeros((rows, 1), np.float32),
        history=np.zeros((rows, 1), np.int64), slate=slates, propensity=propensity,
        position=np.tile(np.arange(K), (rows, 1)), clicked=clicked,
        reward=(clicked >= 0).astype(np.float32), done=np.arange(rows) % 4 == 3,
    )  # fmt: skip


def sound(seed: int = 0, by: Sampler = LOGS) -> Steps:
    rng = np.random.default_rng(seed)
    drawn = by.slates({"profile": np.zeros((ROWS, 1))}, K, rng)
    return steps_of(drawn.items, drawn.propensities, rng)


def read(steps: Steps, target: Sampler = TARGET, launched: np.ndarray | None = None) -> Log:
    return read_log(steps, target, None, ITEMS, 0, launched)


def refusal(log: Log) -> str:
    """The reason, which every way of asking must give."""
    why = diagnose(log).refusal
    for found in (estimate(log, "snips", "prefix", 50, 50, 0), choose(log, 50, 50, 0)):
        assert (found.outcome == "no-data") == bool(why)
        assert (found.value is None) == bool(why)
        if why:
            assert found.why == why
    return why


def test_a_sound_log_is_not_refused() -> None:
    for seed in range(5):
        assert refusal(read(sound(seed))) == ""


def test_missing_propensities() -> None:
    steps = sound()
    rows = np.arange(ROWS) % 5 > 0
    steps.propensity[rows, 1] = np.nan
    log = read(steps)
    assert (log.missing, len(log.person)) == (ROWS * 4 // 5, ROWS // 5)
    assert "80% of the requests have no propensities" in refusal(log)
    steps.propensity[:] = np.nan
    assert refusal(read(steps)) == "no request in the log has propensities"


def test_slates_shown_with_certainty_are_no_evidence() -> None:
    steps = sound()
    value = estimate(read(steps), "snips", "prefix", 50, 50, 0).value
    fixed = np.arange(ROWS) % 2 == 0
    steps.slate[fixed], steps.propensity[fixed] = [0, 1], 1.0
    log = read(steps)
    assert (log.certain, log.missing) == (ROWS // 2, 0)
    assert refusal(log) == ""
    assert estimate(log, "snips", "prefix", 50, 50, 0).value == pytest.approx(value, abs=0.1)
    steps.slate[:], steps.propensity[:] = [0, 1], 1.0
    assert "of chance: 4000 showed their slate with certainty" in refusal(read(steps))


def test_no_overlap() -> None:
    """The log shows the lower half of the catalogue only; what it shows has sound propensities."""
    rng = np.random.default_rng(0)
    half = np.arange(ITEMS // 2, ITEMS)
    drawn = LOGS.slates({"profile": np.zeros((ROWS, 1))}, K, rng, half)
    log = read(steps_of(drawn.items, drawn.propensities, rng))
    assert log.covered.mean() < 0.5
    assert "no overlap: the log shows" in refusal(log)
    assert "no overlap" in refusal(Log.of(np.zeros((500, 1)), np.ones((500, 1))))


@pytest.mark.parametrize(("factor", "cause"), [(1.25, "too high"), (0.8, "too low")])
def test_propensities_that_are_off_by_a_fifth(factor: float, cause: str) -> None:
    steps = sound()
    why = refusal(read(replace(steps, propensity=np.minimum(steps.propensity * factor, 0.999))))
    assert "instead of 1" in why
    assert f"the logged propensities are {cause}" in why


def test_a_logging_policy_that_drifted() -> None:
    """It turned to other items in the third quarter, and logged the probabilities of what it was before.

    In the last quarter it went the other way, so that the mean over the whole log looks right.
    """
    rng = np.random.default_rng(2)
    observation = {"profile": np.zeros((ROWS, 1))}
    slates = LOGS.slates(observation, K, rng).items
    quarter = np.arange(ROWS) * 4 // ROWS
    for when, scores in ((2, -MERIT * 3), (3, -MERIT)):
        odd = draw(np.tile(scores, (ROWS, 1)), K, rng, 0.6 if when == 2 else 1.65, 0.1).items
        slates[quarter == when] = odd[quarter == when]
    log = read(steps_of(slates, LOGS.propensities(observation, slates), rng))
    found = diagnose(log)
    assert abs(found.mean_weight - 1) < 0.15
    assert found.drift_p < 1e-4
    alone = replace(found, mean_weight=1.0, mean_weight_p=0.5)
    assert alone.worst_slice != pytest.approx(1, abs=0.1)
    assert "drifted" in refusal(log) or "instead of 1" in refusal(log)


def test_drift_is_named_where_the_whole_log_looks_right() -> None:
    rng = np.random.default_rng(0)
    ratio = rng.lognormal(-0.125, 0.5, (4000, 1))
    ratio[:1000] *= 1.3
    ratio[1000:2000] *= 0.7
    log = Log.of(ratio / ratio.mean(), rng.random((4000, 1)))
    assert "the logging policy drifted away from its logged propensities" in refusal(log)
    shuffled = rng.permutation(4000)
    assert refusal(replace(log, ratio=log.ratio[shuffled])) == ""


def test_too_small_an_effective_sample_and_too_few_people() -> None:
    far = read(sound(), sampler(MERIT, 0.15))
    found = estimate(far, "snips", "slate", 200, 50, 0)
    assert "4000 logged requests count for" in found.why
    assert "fewer than the 200 that are needed" in found.why
    assert "fewer than the 200 that are needed" in choose(far, 200, 50, 0).why
    few = read(sound())
    few = replace(few, person=few.person % 3)
    assert "3 people are too few for an interval" in estimate(few, "snips", "prefix", 50, 50, 0).why


def test_the_direct_method_needs_a_model_and_gives_no_interval() -> None:
    log = read(sound())
    assert "no model" in estimate(log, "dm", "prefix", 50, 50, 0).why
    modelled = replace(log, modelled=True, direct=np.full(len(log.person), 0.4))
    found = estimate(modelled, "dm", "prefix", 50, 50, 0)
    assert (found.value, found.low, found.high) == (pytest.approx(0.4), None, None)


def test_what_was_not_launched_yet_is_not_held_against_the_log() -> None:
    """The best item comes in the middle of the log: before, no policy could have shown it."""
    rng = np.random.default_rng(3)
    late = np.arange(ITEMS) == ITEMS - 1
    launched = np.where(late, ROWS // 2, 0)
    absent = np.where(launched > np.arange(ROWS)[:, None], np.arange(ITEMS), ITEMS)
    drawn = LOGS.slates({"profile": np.zeros((ROWS, 1))}, K, rng, absent)
    steps = steps_of(drawn.items, drawn.propensities, rng)
    assert "instead of 1" in refusal(read(steps))
    log = read(steps, launched=launched)
    assert refusal(log) == ""
    assert log.ratio.mean() == pytest.approx(1, abs=0.05)
    assert calibrate(steps, ITEMS).ratio.min() < 0.95
    told = calibrate(steps, ITEMS, launched)
    assert (np.abs(told.ratio - 1) < 4 * told.error).all()


def test_calibration_finds_the_items_whose_propensities_are_wrong() -> None:
    steps = sound()
    sane = calibrate(steps, ITEMS)
    assert (np.abs(sane.ratio - 1) < 4 * sane.error).all()
    assert sane.shown.sum() == ROWS
    popular = np.bincount(steps.slate[:, 0], minlength=ITEMS).argsort()[-3:]
    wrong = np.isin(steps.slate[:, 0], popular)
    steps.propensity[wrong, 0] /= 1.5
    found = calibrate(steps, ITEMS)
    assert found.ratio[-1] == pytest.approx(1.5, abs=0.2)
    assert found.ratio[0] == pytest.approx(sane.ratio[0])
    assert found.as_dict()["calibration"] == found.ratio[-1]


def test_false_alarms_are_as_rare_as_they_should_be() -> None:
    refused = sum(bool(diagnose(read(sound(seed))).refusal) for seed in range(100, 160))
    assert refused <= 1


def test_a_uniform_target_is_answered_from_its_own_log() -> None:
    even = uniform(ITEMS)
    log = read(sound(by=even), even)
    np.testing.assert_allclose(log.ratio, 1)
    assert refusal(log) == ""

"""An estimate with its interval, or the reason why there is none."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np

from recloop.evaluation.off_policy.diagnostics import Diagnosis, diagnose, effective_sample
from recloop.evaluation.off_policy.estimators import ESTIMATORS, Weighed
from recloop.evaluation.off_policy.intervals import bootstrap, by_person
from recloop.evaluation.off_policy.log import Log, Weighting
from recloop.evaluation.off_policy.sequence import SEQUENCE_ESTIMATORS, sessions

MODEL_ALONE = "dm"  # uses no weight: it needs a model, and no interval from the log holds its error
FEWEST = 10  # people whom an interval needs

Method = str
"""A name of ``ESTIMATORS``, or with the weighting ``session`` one of ``SEQUENCE_ESTIMATORS``."""


@dataclass(frozen=True)
class Estimate:
    """Reward per request, or per session; or why it cannot be told.

    Attributes:
        outcome: ``ok``, or ``no-data`` when the log supports no estimate; then the value is None.
        why: the reason of ``no-data``, or of a choice.
        value: mean reward.
        low: 95 % interval, resampled by person; None where it would not hold the error (``dm``).
        high: its upper end.
        effective_sample: (sum W)^2 / sum W^2, in rows (Kish 1965).
        mean_weight: near 1 where the logged propensities are right and cover the target policy.
        max_weight: the largest W.
        rows: requests with propensities, or sessions of them.
        estimator: which was chosen, where one was.
    """

    outcome: Literal["ok", "no-data"]
    why: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None
    effective_sample: float = 0.0
    mean_weight: float = 0.0
    max_weight: float = 0.0
    rows: int = 0
    estimator: str = ""

    def as_dict(self) -> dict[str, float | str | None]:
        """For JSON; what cannot be told is left out."""
        return {key: value for key, value in asdict(self).items() if value not in (None, "")}


@dataclass(frozen=True)
class Answer:
    """What one estimator makes of a log; R rows (requests, or sessions) of K weights (positions, or steps).

    Attributes:
        contributions: float64 (R,), their mean is the estimate.
        person: int64 (R,).
        weight: float64 (R, K).
        real: bool (R, K).
        unit: what a row is, for messages.
    """

    contributions: np.ndarray
    person: np.ndarray
    weight: np.ndarray
    real: np.ndarray
    unit: str = "requests"

    def support(self) -> dict[str, float]:
        """The fields of an estimate that say what it rests on."""
        return {
            "effective_sample": effective_sample(self.weight, self.real),
            "mean_weight": float(self.weight.sum() / self.real.sum()),
            "max_weight": float(self.weight.max()),
            "rows": len(self.person),
        }


def weighed(log: Log, weighting: Weighting) -> Weighed:
    """The log as estimators of a single request take it."""
    return Weighed(log.reward, log.weights(weighting), log.real, log.predicted, log.direct)


def estimates(
    log: Log,
    questions: Mapping[str, tuple[Method, Weighting | Literal["session"]]],
    minimum: float,
    times: int,
    seed: int,
    diagnosis: Diagnosis | None = None,
) -> dict[str, Estimate]:
    """Estimate the target policy's reward by several estimators, from the same ``times`` resamples of people.

    ``minimum`` is the effective sample size, in rows, below which no figure is given; ``diagnosis`` is the
    log's, where it was made already.
    """
    found = diagnosis or diagnose(log)
    if found.refusal:
        return {
            name: Estimate("no-data", found.refusal, rows=len(log.person), mean_weight=found.mean_weight)
            for name in questions
        }
    answers = {name: _answer(log, *question) for name, question in questions.items()}
    lows, highs = bootstrap(
        np.hstack([by_person(a.contributions[:, None], a.person) for a in answers.values()]), times, seed
    )
    people = len(np.unique(log.person))
    result = {}
    for (name, answer), low, high in zip(answers.items(), lows, highs, strict=True):
        support, alone = answer.support(), questions[name][0] == MODEL_ALONE
        why = _lacking(log, alone, support, answer.unit, minimum, people)
        if why:
            result[name] = Estimate("no-data", why, **support)  # type: ignore[arg-type]
            continue
        ends = (None, None) if alone else (float(low), float(high))
        result[name] = Estimate("ok", "", float(answer.contributions.mean()), *ends, **support)  # type: ignore[arg-type]
    return result


def estimate(
    log: Log, method: Method, weighting: Weighting | Literal["session"], minimum: float, times: int, seed: int
) -> Estimate:
    """One estimator's; see ``estimates``."""
    return estimates(log, {method: (method, weighting)}, minimum, times, seed)[method]


def _answer(log: Log, method: Method, weighting: Weighting | Literal["session"]) -> Answer:
    if weighting == "session":
        sequences = sessions(log)
        real = np.ones(sequences.reward.shape, bool)
        contributions = SEQUENCE_ESTIMATORS[method](sequences)
        return Answer(contributions, sequences.person, sequences.weight, real, "sessions")
    view = weighed(log, weighting)
    return Answer(ESTIMATORS[method](view), log.person, view.weight, log.real)


def _lacking(
    log: Log, alone: bool, support: Mapping[str, float], unit: str, minimum: float, people: int
) -> str:
    """Why this log says too little; empty where it says enough."""
    if alone:
        return "" if log.modelled else "no model of people's reactions to ask: fit a user model"
    if support["effective_sample"] < minimum:
        return (
            f"{support['rows']} logged {unit} count for {support['effective_sample']:.0f} of this policy,"
            f" fewer than the {minimum:.0f} that are needed: the two policies are too different"
        )
    if people < FEWEST:
        return f"{people} people are too few for an interval: {FEWEST} are needed"
    return ""

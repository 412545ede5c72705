"""For whom a policy is better or worse: paired differences in slices of people, corrected for many tests."""

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import stats

from recloop.evaluation.value import Returns, paired
from recloop.features import FeatureSpec
from recloop.features.spec import AGE_EDGES
from recloop.schema import Item

LEVEL = 0.05  # of the family: the chance to warn anywhere where nothing is lost
FEWEST = 20  # people of a slice, below which nothing is tested
HOURS = 6
AGES = (f"under {AGE_EDGES[0]}", *(f"{a} to {b - 1}" for a, b in pairwise(AGE_EDGES)))
AGES = (*AGES, f"{AGE_EDGES[-1]} or more", "unknown")


@dataclass(frozen=True)
class Slice:
    """How one slice of people fares with the policy and with its rival.

    Attributes:
        by: what people are parted by.
        value: which part.
        people: how many.
        policy: mean return of a session.
        rival: the same with the rival.
        difference: policy minus rival, person by person.
        low: its 95 % interval, of this slice alone; None below two people.
        high: its upper end.
        p: two-sided, adjusted for all slices that are tested (Holm 1979); None where people are too few.
        loses: surely worse: ``difference`` below 0 and ``p`` below ``LEVEL``.
    """

    by: str
    value: str
    people: int
    policy: float
    rival: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    loses: bool


def slices(policy: Returns, rival: Returns, spec: FeatureSpec, items: list[Item]) -> list[dict[str, Any]]:
    """Every slice of who browsed, ready for JSON; both returns are of the same people with the same luck."""
    found: list[tuple[str, str, np.ndarray]] = []
    for by, labels in parts(policy.start, spec, items).items():
        found += [(by, str(value), np.flatnonzero(labels == value)) for value in np.unique(labels)]
    gap = policy.reward - rival.reward
    tested = [len(who) >= FEWEST for _, _, who in found]
    p = iter(holm(np.array([_p(gap[who]) for (_, _, who), is_tested in zip(found, tested, strict=True)
                            if is_tested])).tolist())  # fmt: skip
    rows = []
    for (by, value, who), is_tested in zip(found, tested, strict=True):
        here = paired(_of(rival, who), _of(policy, who))
        chance = next(p) if is_tested else None
        loses = chance is not None and chance < LEVEL and here["difference"] < 0
        low, high = (here[end] if len(who) > 1 else None for end in ("low", "high"))
        means = here["challenger"], here["champion"], here["difference"]
        rows.append(asdict(Slice(by, value, len(who), *means, low, high, chance, loses)))
    return rows


def parts(start: dict[str, np.ndarray], spec: FeatureSpec, items: list[Item]) -> dict[str, np.ndarray]:
    """Labels, str (n,), of the people who are observed so: ``history``, ``category``, ``age``, ``sex``,
    ``device``, ``hour`` (UTC)."""
    profile, context, history = start["profile"], start["context"], start["history"]
    known = history < len(items)
    labels = {
        "history": np.where(known.any(1), "returning", "new"),
        "category": _favourite(history, np.array([item.category for item in items])),
        "age": np.array(AGES)[profile[:, : len(AGES)].argmax(1)],
    }
    at = len(AGES)
    for name, values in spec.categories.items():
        if name == "sex":
            labels[name] = _words(profile[:, at : at + len(values) + 1], values)
        at += len(values) + 1
    labels["device"] = _words(context[:, 4:], spec.devices)
    hour = np.arctan2(context[:, 0], context[:, 1]) / (2 * np.pi) * 24 % 24
    band = (hour + 1e-3).astype(int) % 24 // HOURS * HOURS
    labels["hour"] = np.array([f"{b:02d} to {b + HOURS:02d} h" for b in band.tolist()])
    return labels


def holm(p: np.ndarray) -> np.ndarray:
    """float64 (m,): p values adjusted so that their family errs with the level they are compared to
    (Holm 1979, "A simple sequentially rejective multiple test procedure")."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _p(gap: np.ndarray) -> float:
    """Student's paired test; 1 where nobody differs."""
    return float(stats.ttest_1samp(gap, 0).pvalue) if np.ptp(gap) > 0 else float((gap == 0).all())


def _of(returns: Returns, who: np.ndarray) -> Returns:
    return Returns(returns.reward[who], returns.requests[who], returns.clicks[who], returns.purchases[who])


def _words(one_hot: np.ndarray, values: tuple[str, ...]) -> np.ndarray:
    return np.array([*values, "other"])[one_hot.argmax(1)]


def _favourite(history: np.ndarray, category: np.ndarray) -> np.ndarray:
    """str (n,): the category that is most frequent in each history; of several the first by name."""
    names, at = np.unique(category, return_inverse=True)
    counts = np.zeros((len(history), len(names) + 1), np.int64)
    group = np.append(at, len(names))[history]
    np.add.at(counts, (np.arange(len(history))[:, None], group), 1)
    best = counts[:, :-1].argmax(1)
    return np.where(counts[:, :-1].any(1), names[best], "none yet")

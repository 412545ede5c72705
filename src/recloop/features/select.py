"""Which columns of people are worth having, and what was wrong with their values; from the train split."""

from typing import Any

import numpy as np

from recloop.features.people import People
from recloop.features.spec import FeatureSpec
from recloop.settings.params import SelectionParams

BINS = 10


def judge_columns(
    people: People, requests: np.ndarray, acted: np.ndarray, params: SelectionParams
) -> dict[str, dict[str, Any]]:
    """For each column its ``variance``, its ``information`` and whether it is ``kept``.

    Words are values, numbers fall into ten equally filled bins, and absence is a value too. Variance is
    Gini's, 1 - sum p^2 over people. Information is the mutual information, in nats, of the value and whether
    a request was acted on, over requests; less (values - 1) / 2n, which independent columns show on average
    (Miller, "Note on the bias of information estimates", 1955).

    Args:
        people: B of the train split.
        requests: (B,), how many each had.
        acted: (B,), how many of these were acted on.
        params: least variance and information.
    """
    found = {}
    for name, column in people.columns.items():
        codes = _codes(*column)
        shares = np.bincount(codes) / len(codes)
        variance = 1 - float((shares**2).sum())
        information = _information(codes, requests, acted)
        kept = variance >= params.variance and (not params.information or information >= params.information)
        found[name] = {"variance": variance, "information": information, "kept": kept}
    return found


def describe(people: People, spec: FeatureSpec) -> dict[str, Any]:
    """What was missing or beyond its bounds in people's columns, as counts of people."""
    outside = (people.ages < spec.ages[0]) | (people.ages > spec.ages[1])
    found: dict[str, Any] = {
        "people": len(people.ages),
        "missing": {"age": int(np.isnan(people.ages).sum())},
        "beyond": {"age": int(outside.sum())},
    }
    for name in people.columns:
        values = people.each(name)
        found["missing"][name] = sum(value is None for value in values)
        if scale := spec.scales.get(name):
            numbers = np.array([v for v in values if isinstance(v, int | float)], float)
            far = np.abs(numbers - scale.mean) > spec.farthest * scale.std
            found["beyond"][name] = int(far.sum())
    return found


def _codes(values: Any, which: np.ndarray) -> np.ndarray:
    """int64 (B,): a number for each value."""
    numbers = np.array([v if isinstance(v, int | float) else np.nan for v in values], float)
    told = numbers[which]
    if not np.isnan(told).all():
        edges = np.unique(np.nanquantile(told, np.arange(1, BINS) / BINS))
        bins = np.where(np.isnan(numbers), BINS, np.searchsorted(edges, numbers, side="right"))
        return bins[which]
    places: dict[Any, int] = {}
    return np.array([places.setdefault(value, len(places)) for value in values], np.int64)[which]


def _information(codes: np.ndarray, requests: np.ndarray, acted: np.ndarray) -> float:
    table = np.stack([np.bincount(codes, acted), np.bincount(codes, requests - acted)], 1)
    table = table[table.sum(1) > 0]
    total = table.sum()
    joint = table / total
    apart = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(joint > 0, joint * np.log(joint / apart), 0)
    return max(0.0, float(terms.sum() - (len(table) - 1) / (2 * total)))

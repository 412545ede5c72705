"""Which estimator to believe, chosen from the log alone: SLOPE.

Su, Srinath and Krishnamurthy 2020, "Adaptive estimator selection for off-policy evaluation", eq. 3:
estimators are ordered from least bias to least noise; as long as all intervals ``value +- 2 CNF`` so far
have a point in common, the next one's bias is within the noise of those before, so that it may be taken.
Where CNF bounds the noise, the error is within 6 times the least of bias plus CNF (theorem 2 there); as in
the paper's experiments, CNF is one standard error, here clustered by person.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from recloop.evaluation.off_policy.diagnostics import Diagnosis, diagnose, effective_sample
from recloop.evaluation.off_policy.estimate import Estimate, estimates, weighed
from recloop.evaluation.off_policy.estimators import Weighed, dm, dr, dr_optimistic, snips
from recloop.evaluation.off_policy.intervals import by_person
from recloop.evaluation.off_policy.log import Log, Weighting

SHRINKAGES = (10_000.0, 1000.0, 100.0, 10.0, 1.0)
CLIPS = (100.0, 30.0, 10.0, 3.0, 1.0)


@dataclass(frozen=True)
class Candidate:
    """An estimator in a chain from least bias to least noise."""

    name: str
    weighting: Weighting
    estimator: Callable[[Weighed], np.ndarray]
    needs_weights: bool = True


def clipped_snips(x: Weighed, clip: float) -> np.ndarray:
    """SNIPS with ``min(W, clip)``: infinity is SNIPS, 0 (in the limit) what the logging policy earned."""
    return snips(replace(x, weight=np.minimum(x.weight, clip)))


BY_MODEL = (
    Candidate("dr", "slate", dr),
    Candidate("dr", "prefix", dr),
    *(
        Candidate(f"dr_optimistic {s:g}", "prefix", partial(dr_optimistic, shrinkage=s))
        for s in SHRINKAGES
    ),
    Candidate("dm", "prefix", dm, needs_weights=False),
)  # fmt: skip
BY_WEIGHTS = (
    Candidate("snips", "slate", snips),
    Candidate("snips", "prefix", snips),
    *(Candidate(f"clipped_snips {c:g}", "prefix", partial(clipped_snips, clip=c)) for c in CLIPS),
)


def slope(values: Sequence[float], widths: Sequence[float]) -> int:
    """The last index up to which all ``value +- 2 width`` share a point.

    Bias is taken to grow along the sequence. One that is not less noisy than all before it has nothing to
    offer: it is passed over.
    """
    low, high, best, least = -np.inf, np.inf, 0, np.inf
    for i, (value, width) in enumerate(zip(values, widths, strict=True)):
        if width >= least:
            continue
        low, high = max(low, value - 2 * width), min(high, value + 2 * width)
        if low > high:
            break
        best, least = i, width
    return best


def choose(log: Log, minimum: float, times: int, seed: int, diagnosis: Diagnosis | None = None) -> Estimate:
    """The estimate of the estimator that SLOPE chooses, with its reason; see ``estimates`` for the arguments.

    A shrunken estimator's own interval leaves out its bias. The interval given is that of the least biased
    candidate that the log supports, stretched to the value where that lies outside.
    """
    found = diagnosis or diagnose(log)
    chain = BY_MODEL if log.modelled else BY_WEIGHTS
    views = {weighting: weighed(log, weighting) for weighting in ("slate", "prefix")}
    enough = {w: effective_sample(view.weight, view.real) >= minimum for w, view in views.items()}  # type: ignore[attr-defined]
    first = next((c for c in chain if enough[c.weighting]), chain[1])
    reference = estimates(log, {"": (first.name, first.weighting)}, minimum, times, seed, found)[""]
    if reference.value is None or reference.low is None or reference.high is None:
        return reference
    left = chain[chain.index(first) :]
    contributions = np.stack([c.estimator(views[c.weighting]) for c in left], 1)
    people = by_person(contributions, log.person)
    widths = people.std(0, ddof=1) / len(people) ** 0.5
    values = contributions.mean(0)
    at = slope(values.tolist(), widths.tolist())
    value = float(values[at])
    return replace(
        reference,
        why=_reason(left, at, widths),
        value=value,
        low=min(reference.low, value),
        high=max(reference.high, value),
        estimator=f"{left[at].name} by {left[at].weighting}",
    )


def _reason(left: Sequence[Candidate], at: int, widths: np.ndarray) -> str:
    if at == 0:
        return (
            f"{left[0].name} by {left[0].weighting} has the least bias of what the log supports,"
            " and nothing less noisy agrees with it"
        )
    end = "the last candidate" if at == len(left) - 1 else f"{left[at + 1].name} no longer does"
    return (
        f"{left[at].name} agrees with all that have less bias, with {widths[at] / widths[0]:.0%} of the noise"
        f" of {left[0].name} by {left[0].weighting}, whose interval is given ({end})"
    )
